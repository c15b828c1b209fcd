"""How a run stands, from storage alone: works on any machine, during and after a run.

Counts come from the commit records, which are the truth. What they cannot know (pictures
per second right now, workers) comes from the driver's progress file while that is fresh. The
driver's word decides nothing: a run is done when its success record says so. Its words for
people are in `status_text.py`.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sdbatch.audit.clock import age_s
from sdbatch.audit.status_counts import Counts
from sdbatch.engine.summary import allowed_failures, exit_code_of
from sdbatch.errors import InputError
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.layout import MAIN
from sdbatch.storage.lease import STALE_S, Epoch, newest_epoch, read_heartbeat, surely_gone
from sdbatch.storage.process_identity import this_process
from sdbatch.storage.rework import Rework
from sdbatch.storage.store import Store

DONE, DAMAGED, ROWS_FAILED, UNFINISHED = 0, 3, 4, 75
EXIT_CODES = (1, 2, DAMAGED, ROWS_FAILED, 5, UNFINISHED)  # of an unfinished run
FRESH_S = 45.0
AGAIN = "the same command again"


@dataclass(frozen=True, slots=True)
class Status:
    """A run at one moment. Times are UTC, in ISO form. `status --json` prints these fields.

    Attributes:
        state: `starting` (a driver is at work, nothing is planned yet), `planned`, `running`,
            `stopped`, `done`, `done_with_failures` or `damaged`: finished once, yet its
            records no longer add up to the plan.
        images: Planned pictures; success, failed and filtered count committed ones.
        images_per_s: Measured by the driver, or from the last records; None when unknown.
        eta: When a running run will be done at this rate.
        errors: Error type to count, most frequent first.
        exit_code: The run's own: 0 done, 3 damaged, 4 more failed than allowed, 75
            unfinished, or that with which its last driver ended early.
        driver: Process and machine of the last driver; empty when there was none.
        driver_seen_at: Its last sign of life, by its own clock.
        workers_up: Workers that are ready; None, as all of a running run's own facts, when
            its driver has not spoken lately.
        workers_starting: Workers that load, or wait for a place to do so.
        in_flight: Pictures in lanes.
        gpu_hours: Hours of devices so far, of earlier calls as far as their shards tell; on
            GPUs alone. `worker_hours` counts workers on CPUs too.
        paused: Why the driver hands out nothing at the moment; empty otherwise.
        ended: Why the last driver ended before the run was done; empty otherwise.
        rework: An unfinished retry or repair: `number`, `kind`, `images` and `shards` that
            are left, `of_shards`; None when there is none.
        resume: Command that goes on, or says so in words; empty when nothing is left.
        read_seconds: How long this answer took.
        runs: Where several runs are added up, each of them.
    """

    url: str
    run: str
    state: str
    plan_id: str
    model: str
    images: int
    success: int
    failed: int
    filtered: int
    shards: int
    shards_done: int
    images_per_s: float | None
    eta: str | None
    errors: Mapping[str, int]
    exit_code: int
    driver: str
    driver_seen_at: str | None
    workers_up: int | None
    workers_wanted: int | None
    workers_starting: int | None
    in_flight: int | None
    gpu_hours: float
    worker_hours: float
    paused: str
    ended: str
    rework: Mapping[str, Any] | None
    resume: str
    read_seconds: float
    runs: tuple[Status, ...] = ()

    @property
    def images_done(self) -> int:
        """Pictures in committed shards."""
        return self.success + self.failed + self.filtered

    def to_json(self) -> dict[str, Any]:
        """All fields, as `status --json` prints them."""
        return asdict(self)


def read_status(store: Store, run: str = MAIN, now: datetime | None = None) -> Status:
    """Read how a run stands.

    Raises:
        InputError: There is no run in this folder.
        DamagedError: Its job or a record cannot be read.
    """
    began = time.monotonic()
    now = now or datetime.now(UTC)
    folder = RunFolder(store, run)
    driver = _Driver.look(store, run, folder, now)
    job = folder.read_job()
    if job is None:
        if driver.epoch is None:
            raise InputError(
                f"{store.url}: holds no run '{run}', name the output of sdbatch render"
            )
        job = {"plan_id": "", "resolved": {}, "images": 0, "num_shards": 0, "rows": 0}
        return _status(store, run, job, driver, Counts(), False, now, began)
    # Asked before the records are counted: a run that ends meanwhile must not look damaged.
    finished, rework = folder.success() is not None, folder.open_rework()
    since = driver.epoch.since if driver.epoch and "worker_hours" in driver.said else None
    counts = Counts.of(folder.records(), since, rework)
    return _status(store, run, job, driver, counts, finished, now, began)


@dataclass(frozen=True, slots=True)
class _Driver:
    """The last driver of a run, as far as it shows.

    Attributes:
        alive: It beats, and its process is not known to be gone.
        said: Its progress file, however old; empty when an earlier driver wrote it.
        fresh: The same while it is alive and has spoken lately, else empty.
    """

    epoch: Epoch | None
    seen_at: str | None
    alive: bool
    said: Mapping[str, Any]
    fresh: Mapping[str, Any]

    @classmethod
    def look(cls, store: Store, run: str, folder: RunFolder, now: datetime) -> _Driver:
        epoch = newest_epoch(store, run)
        beat = read_heartbeat(store, run, epoch.number) if epoch else None
        beating = beat is not None and not beat.ended and age_s(beat.at, now) <= STALE_S
        # A killed driver's last beat stays fresh for a while.
        alive = beating and epoch is not None and not surely_gone(epoch, this_process())
        said = folder.read_progress() or {}
        if epoch is not None and age_s(said.get("at"), now) > age_s(epoch.since, now):
            said = {}
        fresh = said if alive and age_s(said.get("at"), now) <= FRESH_S else {}
        seen_at = (beat.at if beat else epoch.since) if epoch else None
        return cls(epoch, seen_at, alive, said, fresh)

    @property
    def ended(self) -> Mapping[str, Any]:
        """How it ended, in its own words: `exit_code`, `reason`; empty when it cannot tell."""
        ended = self.said.get("ended")
        return ended if isinstance(ended, Mapping) and not self.alive else {}


def _status(
    store: Store, run: str, job: Mapping[str, Any], driver: _Driver, counts: Counts,
    finished: bool, now: datetime, began: float,
) -> Status:  # fmt: skip
    rework = counts.rework
    state = _state(job, driver, counts, finished)
    fresh = driver.fresh
    rate = fresh.get("images_per_s") or counts.rate()
    left = job["images"] - counts.images - int(fresh.get("finished") or 0)
    if rework is not None:
        left = counts.redo_images - int(fresh.get("finished") or 0)
    gpu_hours, worker_hours = _hours(job, driver, counts)
    return Status(
        url=store.url,
        run=run,
        state=state,
        plan_id=str(job["plan_id"]),
        model=str(job["resolved"].get("model", "")),
        images=job["images"],
        success=counts.success,
        failed=counts.failed,
        filtered=counts.filtered,
        shards=job["num_shards"],
        shards_done=counts.shards,
        images_per_s=round(rate, 3) if rate else None,
        eta=_eta(now, left, rate) if state == "running" else None,
        errors=dict(sorted(counts.errors.items(), key=lambda item: (-item[1], item[0]))),
        exit_code=_exit_code(state, counts.failed, job, driver.ended),
        driver=driver.epoch.owner.place if driver.epoch else "",
        driver_seen_at=driver.seen_at,
        workers_up=fresh.get("workers_up"),
        workers_wanted=fresh.get("workers_wanted"),
        workers_starting=fresh.get("workers_starting"),
        in_flight=fresh.get("in_flight"),
        gpu_hours=gpu_hours,
        worker_hours=worker_hours,
        paused=str(fresh.get("paused") or ""),
        ended=str(driver.ended.get("reason") or "") if state == "stopped" else "",
        rework=_rework(rework, counts) if rework else None,
        resume=_resume_hint(store, run, job, rework) if state in ("planned", "stopped") else "",
        read_seconds=round(time.monotonic() - began, 3),
    )


def _state(job: Mapping[str, Any], driver: _Driver, counts: Counts, finished: bool) -> str:
    if finished and not counts.fill(job):
        return "damaged"
    if finished and counts.rework is None:
        return "done_with_failures" if counts.failed else "done"
    if driver.alive:
        return "running" if job["plan_id"] else "starting"
    return "stopped" if driver.epoch is not None or counts.shards else "planned"


def _exit_code(state: str, failed: int, job: Mapping[str, Any], ended: Mapping[str, Any]) -> int:
    """The run's own code; the driver knows best what was allowed, since a later call may say."""
    if state == "damaged":
        return DAMAGED
    said = ended.get("exit_code")
    if state in ("done", "done_with_failures"):
        if said in (DONE, ROWS_FAILED) and failed:
            return int(said)
        return exit_code_of(True, failed, allowed_failures(job))
    return int(said) if state == "stopped" and said in EXIT_CODES else UNFINISHED


def _hours(job: Mapping[str, Any], driver: _Driver, counts: Counts) -> tuple[float, float]:
    """(hours on GPUs, hours of workers): the last call's by its driver, earlier ones' by shards."""
    before = counts.device_s / 3600
    on_cpu = str(job.get("render_env", "")).startswith("cpu ")
    workers = before + _number(driver.said.get("worker_hours"))
    gpus = (0.0 if on_cpu else before) + _number(driver.said.get("gpu_hours"))
    return round(gpus, 4), round(workers, 4)


def _rework(rework: Rework, counts: Counts) -> dict[str, Any]:
    return {
        "number": rework.number,
        "kind": rework.redo.kind,
        "images": counts.redo_images,
        "shards": counts.redo_shards,
        "of_shards": len(rework.shards),
    }


def _eta(now: datetime, images_left: int, rate: float | None) -> str | None:
    if not rate:
        return None
    return (now + timedelta(seconds=max(images_left, 0) / rate)).isoformat(timespec="seconds")


def _resume_hint(store: Store, run: str, job: Mapping[str, Any], rework: Rework | None) -> str:
    if rework is not None:
        return rework.command(store.url, run)
    manifest = job.get("asked", {}).get("manifest")
    if not isinstance(manifest, str) or manifest in ("", "-"):
        return AGAIN
    appended = [] if run == MAIN else ["--append", run]
    return shlex.join(["sdbatch", "render", manifest, store.url, *appended])


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0

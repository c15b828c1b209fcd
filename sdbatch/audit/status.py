"""How a run stands, from storage alone: works on any machine, during and after a run.

Counts come from the commit records, which are the truth. What they cannot know (pictures
per second right now, workers) comes from the driver's progress file while that is fresh. The
driver's word decides nothing: a run is done when its success record says so.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sdbatch.errors import InputError
from sdbatch.records import ShardResult
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.layout import MAIN
from sdbatch.storage.lease import STALE_S, newest_epoch, read_heartbeat, surely_gone
from sdbatch.storage.process_identity import this_process
from sdbatch.storage.store import Store

DONE, DAMAGED, ROWS_FAILED, UNFINISHED = 0, 3, 4, 75
FRESH_S = 45.0
RECENT_RECORDS = 64


@dataclass(frozen=True, slots=True)
class Status:
    """A run at one moment. Times are UTC, in ISO form.

    Attributes:
        state: `planned`, `running`, `stopped`, `done`, `done_with_failures` or `damaged`:
            finished once, yet its records no longer add up to the plan.
        images: Planned pictures; success, failed and filtered count committed ones.
        images_per_s: Measured by the driver, or from the last records; None when unknown.
        eta: When a running run will be done at this rate.
        errors: Error type to count, most frequent first.
        exit_code: The run's own: 0 done, 3 damaged, 4 more failed than allowed,
            75 unfinished.
        driver: Process and machine of the last driver; empty when there was none.
        driver_seen_at: Its last sign of life, by its own clock.
        resume: Command that goes on, or says so in words; empty when nothing is left.
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
    in_flight: int | None
    resume: str

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
    now = now or datetime.now(UTC)
    folder = RunFolder(store, run)
    job = folder.read_job()
    if job is None:
        raise InputError(f"{store.url}: holds no run '{run}', name the output of sdbatch render")
    # Asked before the records are counted: a run that ends meanwhile must not look damaged.
    finished = folder.success() is not None
    counts = _count(folder)
    damaged = finished and not counts.fill(job)
    epoch = newest_epoch(store, run)
    beat = read_heartbeat(store, run, epoch.number) if epoch else None
    beating = beat is not None and not beat.ended and _age_s(beat.at, now) <= STALE_S
    # A killed driver's last beat stays fresh for a while.
    alive = beating and epoch is not None and not surely_gone(epoch, this_process())
    progress = folder.read_progress() or {}
    fresh = progress if alive and _age_s(progress.get("at"), now) <= FRESH_S else {}
    rate = fresh.get("images_per_s") or counts.rate()
    state = _state(finished, counts.failed, alive, started=epoch is not None or counts.shards > 0)
    state = "damaged" if damaged else state
    done = counts.success + counts.failed + counts.filtered + int(fresh.get("finished") or 0)
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
        eta=_eta(now, job["images"] - done, rate) if state == "running" else None,
        errors=dict(sorted(counts.errors.items(), key=lambda item: (-item[1], item[0]))),
        exit_code=DAMAGED if damaged else _exit_code(finished, counts.failed, job),
        driver=epoch.owner.place if epoch else "",
        driver_seen_at=(beat.at if beat else epoch.since) if epoch else None,
        workers_up=fresh.get("workers_up"),
        workers_wanted=fresh.get("workers_wanted"),
        in_flight=fresh.get("in_flight"),
        resume=_resume_hint(store, run, job) if state in ("planned", "stopped") else "",
    )


def describe(status: Status, now: datetime | None = None) -> str:
    """A few lines for people; clock times are local."""
    now = now or datetime.now(UTC)
    share = status.images_done / status.images if status.images else 1.0
    lines = [
        f"{status.url}: {status.state.replace('_', ' ')}, {status.images_done:,} of "
        f"{status.images:,} images ({share:.0%}), {status.shards_done:,} of "
        f"{status.shards:,} shards",
        f"success {status.success:,}, failed {status.failed:,}, filtered {status.filtered:,}",
    ]
    if status.errors:
        shown = ", ".join(f"{name} {count:,}" for name, count in status.errors.items())
        lines.append(f"failures: {shown}")
    if status.state == "damaged":
        verify = shlex.join(["sdbatch", "verify", status.url])
        lines.append(f"a finished run whose records no longer add up to its plan, run: {verify}")
    elif status.state == "running":
        lines.append(_pace(status, now))
    elif status.resume:
        lines.append(_silence(status, now))
        lines.append(f"resume with: {status.resume}")
    lines.append(f"model {status.model}, plan {status.plan_id[:12]}")
    return "\n".join(lines)


@dataclass
class _Counts:
    """Sums over commit records, and when the last of them were written."""

    shards: int = 0
    success: int = 0
    failed: int = 0
    filtered: int = 0

    def __post_init__(self) -> None:
        self.errors: dict[str, int] = {}
        self._last: list[tuple[str, str, int]] = []

    def add(self, result: ShardResult) -> None:
        images = result.success + result.failed + result.filtered
        self.shards += 1
        self.success += result.success
        self.failed += result.failed
        self.filtered += result.filtered
        for name, count in result.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        self._last.append((result.finished_at, result.started_at, images))
        if len(self._last) > 2 * RECENT_RECORDS:
            self._last = sorted(self._last)[-RECENT_RECORDS:]

    def fill(self, job: Mapping[str, Any]) -> bool:
        """Whether these are all shards and pictures that were planned."""
        images = self.success + self.failed + self.filtered
        return (self.shards, images) == (job["num_shards"], job["images"])

    def rate(self) -> float | None:
        """Pictures per second over the last records; None when they say nothing."""
        last = sorted(self._last)[-RECENT_RECORDS:]
        begins = [begun for _, started, _ in last if (begun := _time(started))]
        end = _time(last[-1][0]) if last else None
        if end is None or not begins or (seconds := (end - min(begins)).total_seconds()) <= 0:
            return None
        return sum(images for _, _, images in last) / seconds


def _count(folder: RunFolder) -> _Counts:
    counts = _Counts()
    for record in folder.records():
        counts.add(record.result)
    return counts


def _state(finished: bool, failed: int, alive: bool, *, started: bool) -> str:
    if finished:
        return "done_with_failures" if failed else "done"
    if alive:
        return "running"
    return "stopped" if started else "planned"


def _exit_code(finished: bool, failed: int, job: Mapping[str, Any]) -> int:
    if not finished:
        return UNFINISHED
    allowed = _allowed_failures(job)
    share = job["images"] / 100 if allowed.endswith("%") else 1
    limit = float(allowed.removesuffix("%")) * share
    return ROWS_FAILED if failed > limit else DONE


def _allowed_failures(job: Mapping[str, Any]) -> str:
    """`failures.allow` as it was settled, or as it was asked for when the plan leaves it out."""
    for settings in (job["resolved"], job.get("asked", {})):
        if "failures.allow" in settings:
            return str(settings["failures.allow"])
        nested = settings.get("failures")
        if isinstance(nested, Mapping) and "allow" in nested:
            return str(nested["allow"])
    return "0"


def _eta(now: datetime, images_left: int, rate: float | None) -> str | None:
    if not rate:
        return None
    return (now + timedelta(seconds=max(images_left, 0) / rate)).isoformat(timespec="seconds")


def _resume_hint(store: Store, run: str, job: Mapping[str, Any]) -> str:
    manifest = job.get("asked", {}).get("manifest")
    if not isinstance(manifest, str) or manifest in ("", "-"):
        return "the same command again"
    appended = [] if run == MAIN else ["--append", run]
    return shlex.join(["sdbatch", "render", manifest, store.url, *appended])


def _pace(status: Status, now: datetime) -> str:
    parts = []
    if status.images_per_s:
        parts.append(f"{status.images_per_s:.2f} images/s")
    if status.eta:
        parts.append(f"done at about {_clock(status.eta, now)}")
    if status.workers_wanted is not None:
        parts.append(f"{status.workers_up} of {status.workers_wanted} workers")
    if status.in_flight is not None:
        parts.append(f"{status.in_flight} images in flight")
    return ", ".join(parts) or "no shard is finished yet"


def _silence(status: Status, now: datetime) -> str:
    if not status.driver_seen_at:
        return "no driver has started it yet"
    minutes = int(_age_s(status.driver_seen_at, now) // 60)
    ago = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    return f"no sign of the driver ({status.driver}) for {ago}"


def _clock(moment: str, now: datetime) -> str:
    local = datetime.fromisoformat(moment).astimezone()
    same_day = local.date() == now.astimezone().date()
    return local.strftime("%H:%M" if same_day else "%a %d %b, %H:%M")


def _age_s(moment: Any, now: datetime) -> float:
    parsed = _time(moment)
    return float("inf") if parsed is None else (now - parsed).total_seconds()


def _time(moment: Any) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(moment)
    except (TypeError, ValueError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)

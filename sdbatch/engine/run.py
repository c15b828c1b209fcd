"""The driver: one run from a prepared plan to its last commit.

It owns what both engines need around them: the lease on the output, the plan in storage,
signals, the progress file and the first pictures to look at. It sees counts and records;
picture bytes pass through it only for the preview.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from sdbatch.dataset.columns import render_env_text
from sdbatch.engine import job_folder
from sdbatch.engine.canary import Canary
from sdbatch.engine.choice import RunOptions, choose_engine
from sdbatch.engine.driver_loop import EngineInput, EngineResult, Stop
from sdbatch.engine.events import Event, FirstPictures, Progress, ShardDone, WorkerReady
from sdbatch.engine.inline_engine import run_inline
from sdbatch.engine.job_folder import StoredJob
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.publish import CARD_KEY, Preview
from sdbatch.engine.signals import stop_on_signals
from sdbatch.engine.summary import Summary, Totals, exit_code_of, tolerance
from sdbatch.errors import (
    DamagedError,
    InputError,
    LeaseHeldError,
    NoWorkersError,
    SdbatchError,
    StorageError,
    StoreNotSharedError,
)
from sdbatch.plan.sharding import lease_order
from sdbatch.records import RunSpec, size_name
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import hold_lease

PROGRESS_EVERY_S = 10.0
PULSE_S = 1.0
ORDERLY = (0, 4, 75)


class Reporter(Protocol):
    """Where a run tells a person how it goes."""

    def note(self, line: str) -> None:
        """Show one line."""

    def progress(self, progress: Progress) -> None:
        """Show where the run stands; called several times a second."""


@dataclass
class Run:
    """One call of `render` on one output.

    Attributes:
        prepare_again: Decides once more, over the plan that another driver has just written.
        newly_finished: This call committed the last shard; card and preview are due.
    """

    prepared: Prepared
    options: RunOptions
    report: Reporter
    prepare_again: Callable[[], Prepared]
    newly_finished: bool = False
    _stop: Stop = field(default_factory=Stop)
    _started: float = field(default_factory=time.monotonic)
    _ready_at: float = 0.0
    _last_done_at: float = 0.0
    _progress_at: float = float("-inf")
    _rate_from: tuple[float, int] | None = None
    _job: StoredJob | None = None
    _token: str = ""
    _preview: Preview | None = None
    _preview_told: bool = False
    _canary: Canary | None = None
    _failed_advice: set[str] = field(default_factory=set)

    def execute(self) -> Summary:
        """Run the plan to its end, or to an orderly stop.

        Raises:
            SdbatchError: Whatever ended the run before an orderly stop.
        """
        store, run = self.prepared.store, self.prepared.run
        folder = RunFolder(store, run)
        if self.prepared.stored is not None and folder.success() is not None:
            return self._nothing_to_do(folder)
        with (
            hold_lease(store, run, on_wait=self.report.note, on_lost=self._stop.request) as lease,
            stop_on_signals(self._stop, self.report.note),
        ):
            if self.prepared.stored is None and folder.read_job() is not None:
                self.prepared = self.prepare_again()  # another driver was first
                if folder.success() is not None:
                    return self._nothing_to_do(folder)
            committed = folder.committed()
            all_done = self.prepared.stored is not None and len(committed) == len(
                self.prepared.shards
            )
            result = None if all_done else self._engine(folder, committed)
            if lease.lost:
                raise LeaseHeldError(f"{store.url}: {self._stop.reason}")
            return self._end(folder, result)

    # -- before ----------------------------------------------------------------------

    def _nothing_to_do(self, folder: RunFolder) -> Summary:
        summary = self._summary(folder, None)
        if summary.done != summary.images:
            raise DamagedError(
                self.prepared.store.url,
                f"finished with {summary.images:,} pictures, but records name {summary.done:,}: "
                "see sdbatch verify",
            )
        self.report.note(f"nothing to do, {summary.done:,} of {summary.images:,} done")
        # A driver may have died between its success record and the card, its last word.
        self.newly_finished = self.prepared.store.head(CARD_KEY) is None
        return summary

    def _engine(self, folder: RunFolder, committed: set[int]) -> EngineResult:
        prepared, store = self.prepared, self.prepared.store
        if not committed <= {shard.shard_id for shard in prepared.shards}:
            raise DamagedError(store.join(layout.commits_prefix(prepared.run)), "foreign records")
        totals = Totals.of(record.result for record in folder.records())
        done = totals.success + totals.failed + totals.filtered
        if done:
            self.report.note(f"resuming: {done:,} of {prepared.images:,} images done")
        token = uuid.uuid4().hex[:12]
        store.put(layout.token_key(token), b"driver")
        self._preview, self._token = Preview(store, prepared.run), token
        try:
            return self._run_engine(
                EngineInput(
                    output=store.url,
                    storage=prepared.storage,
                    render=prepared.render,
                    sizes=prepared.sizes,
                    token=token,
                    shards=[s for s in lease_order(prepared.shards) if s.shard_id not in committed],
                    images_total=prepared.images,
                    images_done=done,
                    failed_done=totals.failed,
                    shards_total=len(prepared.shards),
                    shards_done=len(committed),
                    workers=self.options.workers,
                    wait_s=self.options.wait_s,
                    retries=prepared.asked.value("retries"),
                    stop_after=tolerance(
                        prepared.asked.value("failures.stop_after"), prepared.images
                    ),
                    pulse_s=PULSE_S,
                    settle=self._settle,
                    on_progress=self._on_progress,
                    on_note=self.report.note,
                    on_event=self._on_event,
                    stop=self._stop,
                )
            )
        finally:
            with suppress(StorageError):  # leftovers are gc's; the run's own error matters more
                for info in list(store.list(layout.tokens_prefix(layout.MAIN))):
                    store.delete(info.key)

    def _run_engine(self, engine_input: EngineInput) -> EngineResult:
        name = choose_engine(self.options, self.prepared.store.private)
        if name == "inline":
            self.report.note("engine: inline, one worker in this process")
            return run_inline(engine_input)
        from sdbatch.engine.ray_engine import run_on_ray  # Ray loads only when it is used

        where = f"the cluster at {self.options.address}" if self.options.address else "this machine"
        self.report.note(f"engine: ray on {where}")
        return run_on_ray(
            engine_input,
            self.options.address,
            self.prepared.render.cpu_threads,
            dashboard=self.options.dashboard,
        )

    # -- hooks of the engine -----------------------------------------------------------

    def _settle(self, ready: WorkerReady) -> RunSpec:
        """Write the plan with what the first worker decided, or take the one that stands."""
        prepared = self.prepared
        self._ready_at = time.monotonic()
        env = render_env_text(ready.env)
        if prepared.job is not None:
            lanes = {size_name(*size): ready.lanes[size_name(*size)] for size in prepared.sizes}
            render = replace(prepared.render, dtype=ready.env.dtype, lanes=lanes)
            resolved = prepared.job.resolved.settle(ready.env.dtype, lanes)
            job = replace(prepared.job, render=render, render_env=env)
            self._job = job_folder.create(prepared.store, prepared.run, job, resolved)
        else:
            self._job = prepared.stored
            if self._job is not None and self._job.body["render_env"] != env:
                self.report.note(
                    f"note: begun on {self._job.body['render_env']}, going on with {env}: "
                    "pixels may differ in their last bits; each row says what drew it"
                )
        if self._job is None:
            raise SdbatchError("a prepared run has neither a new plan nor a standing one")
        render = self._job.spec.render
        self._canary = Canary(render.dtype) if self.options.canary else None
        shown = ", ".join(f"{size} {lanes}" for size, lanes in render.lanes.items())
        self.report.note(
            f"drawing on {ready.env.device_name}, {render.dtype}, lanes {shown}; "
            f"plan {self._job.spec.plan_id[:12]}"
        )
        return replace(
            self._job.spec,
            storage=prepared.storage,
            checkpoint_every_s=prepared.asked.value("checkpoint_every_s"),
            retries=prepared.asked.value("retries"),
        )

    def _on_event(self, event: Event) -> None:
        store = self.prepared.store
        if isinstance(event, WorkerReady):
            if store.head(layout.token_key(f"{self._token}-{event.worker}")) is None:
                raise StoreNotSharedError(event.node, store.url)
            for line in event.notes:
                self.report.note(f"{event.worker} on {event.node}: {line}")
        elif isinstance(event, FirstPictures):
            alarm = self._canary.hear(event.facts) if self._canary else ""
            if alarm:
                self._stop.request(alarm)
        elif isinstance(event, ShardDone):
            self._last_done_at = time.monotonic()
            shown = None
            with self._advisory("the preview"):
                shown = self._preview.add(event.shard_id) if self._preview else None
            if shown and not self._preview_told:
                self._preview_told = True
                self.report.note(f"first pictures: {shown}")

    def _on_progress(self, progress: Progress) -> None:
        self.report.progress(progress)
        now = time.monotonic()
        if now - self._progress_at < PROGRESS_EVERY_S:
            return
        self._progress_at = now
        drawn = progress.done + progress.finished
        if self._rate_from is None and progress.workers_up:
            self._rate_from = (now, drawn)
        since, before = self._rate_from or (now, drawn)
        rate = (drawn - before) / (now - since) if now > since else None
        with self._advisory("progress.json"):
            RunFolder(self.prepared.store, self.prepared.run).write_progress(
                {**asdict(progress), "images_per_s": rate}
            )

    @contextmanager
    def _advisory(self, what: str) -> Iterator[None]:
        """What serves people alone must not end a run: a failure is said once."""
        try:
            yield
        except StorageError as error:
            if what not in self._failed_advice:
                self._failed_advice.add(what)
                self.report.note(f"note: {what} cannot be written ({error}); the run goes on")

    # -- after -----------------------------------------------------------------------

    def _end(self, folder: RunFolder, result: EngineResult | None) -> Summary:
        if result is not None and result.error is not None:
            raise result.error
        if result is not None and result.exit_code not in ORDERLY:
            raise _error_of(result)
        if result is None or result.exit_code == 0:
            folder.create_success(self._job_id(), len(self.prepared.shards))
            self.newly_finished = True
        return self._summary(folder, result)

    def _job_id(self) -> str:
        job = self._job or self.prepared.stored
        if job is None:
            raise SdbatchError("the engine finished without a plan")
        return job.spec.plan_id

    def _summary(self, folder: RunFolder, result: EngineResult | None) -> Summary:
        totals = Totals.of(record.result for record in folder.records())
        drawn = result.success + result.failed + result.filtered if result else 0
        span = self._last_done_at - self._ready_at
        allowed = tolerance(self.prepared.asked.value("failures.allow"), self.prepared.images)
        finished = folder.success() is not None
        job = self._job or self.prepared.stored
        return Summary(
            output=self.prepared.store.url,
            plan_id=job.spec.plan_id if job else "",
            rows=self.prepared.rows,
            images=self.prepared.images,
            success=totals.success,
            failed=totals.failed,
            filtered=totals.filtered,
            seconds=round(time.monotonic() - self._started, 3),
            startup_seconds=round(max(self._ready_at - self._started, 0.0), 3),
            images_per_s=round(drawn / span, 3) if drawn and span > 0 else 0.0,
            row_steps=totals.row_steps,
            lane_steps=totals.lane_steps,
            occupancy=totals.occupancy,
            phase_seconds=totals.phase_seconds,
            workers=result.workers_used if result else 0,
            exit_code=(
                result.exit_code
                if result and result.exit_code
                else exit_code_of(finished, totals.failed, allowed or 0)
            ),
            reason=result.reason if result else "",
        )


def _error_of(result: EngineResult) -> SdbatchError:
    kinds: dict[int, type[SdbatchError]] = {2: InputError, 3: StorageError, 5: NoWorkersError}
    return kinds.get(result.exit_code, SdbatchError)(result.reason)

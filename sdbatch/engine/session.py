"""One call of an engine over open shards of a run, with the hooks that it needs around it.

A first run, a resumed one and a rework differ only in their `Work`. The session settles the
plan with the first worker, watches the first pictures, keeps `progress.json` and the preview
up to date, and remembers what the summary says of this call. It sees counts and records;
picture bytes pass through it only for the preview.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from sdbatch.engine.log_lines import RunLog
from sdbatch.engine.prepare import Prepared
from sdbatch.engine.publish import Preview
from sdbatch.engine.summary import tolerance
from sdbatch.errors import SdbatchError, StorageError, StoreNotSharedError
from sdbatch.plan.image_settings import image_spec
from sdbatch.records import Redo, RunSpec, Shard, size_name
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.compactor import Compactor
from sdbatch.storage.probe import probe
from sdbatch.storage.retrying import time_limit

PROGRESS_EVERY_S = 10.0
PULSE_S = 1.0
ADVISORY_S = 10.0  # the loop's thread does it: workers wait to be heard


class Reporter(Protocol):
    """Where a run tells a person how it goes."""

    def note(self, line: str) -> None:
        """Show one line."""

    def progress(self, progress: Progress) -> None:
        """Show where the run stands; called several times a second."""


def _none_failed() -> int:
    """Nothing stood before, so nothing had failed."""
    return 0


@dataclass(frozen=True)
class Work:
    """What a session draws; pictures and shards are counted over all that it is about.

    Attributes:
        shards: Open shards, in the order in which they should be leased.
        revisions: Shard to the revision that is made of it; empty in an ordinary run.
        redo: What of these shards is drawn again.
        counts_drawn: `images` counts pictures to be drawn, not all those of the shards.
        failed_before: Failed pictures in shards that were done before, as far as known.
        committed: Records that stand, of all shards of the run.
    """

    shards: Sequence[Shard]
    images: int
    images_done: int
    num_shards: int
    shards_done: int
    revisions: Mapping[int, int] = field(default_factory=dict)
    redo: Redo | None = None
    counts_drawn: bool = False
    failed_before: Callable[[], int] = _none_failed
    committed: int = 0


class Session:
    """One or more engine calls of one driver.

    Attributes:
        job: The plan that stands; None until the first worker has settled a new one.
        ready_at: `time.monotonic()` when the first worker was ready; 0 before.
        last_done_at: The same of the last commit.
        drawn: Pictures drawn in this call that stand in commits now.
        workers: Most workers that were up at the same time.
        worker_hours: Hours that workers were up or loading, all together.
        gpu_hours: Of these, those on a GPU.
        untouched: Shards made again of which every picture was taken over.
    """

    def __init__(
        self, prepared: Prepared, options: RunOptions, report: Reporter, stop: Stop
    ) -> None:
        self.prepared, self.options, self.report, self.stop = prepared, options, report, stop
        self.job: StoredJob | None = prepared.stored
        self.ready_at = self.last_done_at = 0.0
        self.drawn = self._drawn_before = self.workers = 0
        self.worker_hours = self.gpu_hours = 0.0
        self.untouched: set[int] = set()
        self._folder = RunFolder(prepared.store, prepared.run)
        self._work = Work((), 0, 0, 0, 0)
        self._token = ""
        self._preview: Preview | None = None
        self._compactor: Compactor | None = None
        self._preview_told = False
        self._canary: Canary | None = None
        self._progress_at = float("-inf")
        self._rate_from: tuple[float, int] | None = None
        self._failed_advice: set[str] = set()
        self._warned: set[str] = set()
        self._heard: set[str] = set()  # notes of renderers

    def run(self, work: Work, log: RunLog) -> EngineResult:
        """Draw the work to its end, or to an orderly stop.

        Raises:
            SdbatchError: From a hook; workers are gone then.
        """
        prepared, store = self.prepared, self.prepared.store
        self._work, self._token, self._rate_from = work, uuid.uuid4().hex[:12], None
        self._drawn_before = self.drawn
        if prepared.stored is None and not self.options.single_driver:
            probe(store, prepared.run)
        store.put(layout.token_key(self._token, prepared.run), b"driver")
        self._preview = Preview(store, prepared.run)
        self._compactor = Compactor(store, prepared.run, work.committed)
        try:
            result = self._run_engine(log.listening(self._engine_input(work)))
        finally:
            with suppress(StorageError):  # leftovers are gc's; the run's own error matters more
                # Its own alone: a driver that slept through its lease wakes beside another.
                for info in list(store.list(layout.token_key(self._token, prepared.run))):
                    store.delete(info.key)
        self.workers = max(self.workers, result.workers_used)
        self.worker_hours += result.worker_hours
        self.gpu_hours += result.gpu_hours
        if result.exit_code == 0:
            self._compactor.close()  # else it is not waited for: somebody wants an end
        return result

    def _engine_input(self, work: Work) -> EngineInput:
        prepared = self.prepared
        # What failed once may fail again: neither limit nor canary is meant for a rework.
        limit = None if work.redo else prepared.asked.value("failures.stop_after")
        return EngineInput(
            output=prepared.store.url,
            storage=prepared.storage,
            render=prepared.render,
            sizes=prepared.sizes,
            image=image_spec(prepared.resolved.values()),
            token=self._token,
            shards=work.shards,
            revisions=work.revisions,
            images_total=work.images,
            images_done=work.images_done,
            failed_done=0,
            shards_total=work.num_shards,
            shards_done=work.shards_done,
            workers=self.options.workers,
            wait_s=self.options.wait_s,
            retries=prepared.asked.value("retries"),
            stop_after=tolerance(limit, prepared.images),
            pulse_s=PULSE_S,
            settle=self._settle,
            on_progress=self._on_progress,
            on_note=self.report.note,
            on_event=self._on_event,
            stop=self.stop,
            limits=self.options.limits,
            run=prepared.run,
        )

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
        self.ready_at = self.ready_at or time.monotonic()
        env = render_env_text(ready.env)
        if self.job is None:
            self.job = self._create_job(ready, env)
        elif self.job.body["render_env"] != env:
            self.report.note(
                f"note: begun on {self.job.body['render_env']}, going on with {env}: "
                "pixels may differ in their last bits; each row says what drew it"
            )
        render = replace(self.job.spec.render, model_path=prepared.render.model_path)
        watched = self.options.canary and self._work.redo is None
        self._canary = Canary(render.dtype) if watched else None
        shown = ", ".join(f"{size} {lanes}" for size, lanes in render.lanes.items())
        self.report.note(
            f"drawing on {ready.env.device_name}, {render.dtype}, lanes {shown}; "
            f"plan {self.job.spec.plan_id[:12]}"
        )
        return replace(
            self.job.spec,
            render=render,
            storage=prepared.storage,
            checkpoint_every_s=prepared.asked.value("checkpoint_every_s"),
            retries=prepared.asked.value("retries"),
            redo=self._work.redo,
        )

    def _create_job(self, ready: WorkerReady, env: str) -> StoredJob:
        prepared = self.prepared
        if prepared.job is None:
            raise SdbatchError("a prepared run has neither a new plan nor a standing one")
        lanes = {size_name(*size): ready.lanes[size_name(*size)] for size in prepared.sizes}
        render = replace(prepared.render, dtype=ready.env.dtype, lanes=lanes)
        resolved = prepared.job.resolved.settle(ready.env.dtype, lanes, ready.env.device)
        job = replace(prepared.job, render=render, render_env=env)
        return job_folder.create(prepared.store, prepared.run, job, resolved)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, WorkerReady):
            store, run = self.prepared.store, self.prepared.run
            if store.head(layout.token_key(f"{self._token}-{event.worker}", run)) is None:
                raise StoreNotSharedError(event.node, store.url)
            for line in event.notes:
                self.report.note(f"{event.worker} on {event.node}: {line}")
                self._heard.add(line)
        elif isinstance(event, FirstPictures):
            alarm = self._canary.hear(event.facts) if self._canary else ""
            if alarm:
                self.stop.request(alarm)
        elif isinstance(event, ShardDone):
            self._on_done(event)

    def _on_done(self, event: ShardDone) -> None:
        self.last_done_at = time.monotonic()
        if self._compactor:
            self._compactor.note()
        ended = event.success + event.failed + event.filtered
        self.drawn += max(ended - event.taken_over, 0)
        if ended == event.taken_over:
            self.untouched.add(event.shard_id)
        self._warn_of(event)
        self._pass_on(event)
        shown = None
        with self._advisory("the preview"):
            shown = self._preview.add(event.shard_id) if self._preview else None
        if shown and not self._preview_told:
            self._preview_told = True
            self.report.note(f"first pictures: {shown}")

    def _pass_on(self, event: ShardDone) -> None:
        """What a renderer found out while it drew, once whichever worker says it."""
        for line in event.notes:
            if line not in self._heard:
                self._heard.add(line)
                self.report.note(f"{event.worker}: {line}")

    def _warn_of(self, event: ShardDone) -> None:
        """Say once, while it costs little, that choices may not be those that were meant."""
        if event.unscored:
            self._warn(
                "unscored",
                f"{event.unscored} pictures of shard {event.shard_id:05d} lack a score, which "
                "no filter holds against them; sdbatch logs says why (picture_unscored)",
            )
        if event.filtered and not event.success:
            self._warn(
                "filtered",
                f"every picture of shard {event.shard_id:05d} went to filtered/: --filter says "
                "what is kept apart, not what stays",
            )

    def _warn(self, about: str, line: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            self.report.note(f"warning: {line}")

    def _on_progress(self, progress: Progress) -> None:
        progress = replace(progress, failed=progress.failed + self._work.failed_before())
        if self._work.counts_drawn:  # what is taken over was drawn before
            drawn = min(self.drawn - self._drawn_before, progress.images)
            progress = replace(progress, done=drawn, finished=0)
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
            self._folder.write_progress({**asdict(progress), "images_per_s": rate})

    @contextmanager
    def _advisory(self, what: str) -> Iterator[None]:
        """What serves people alone must not end a run, nor hold it: a failure is said once."""
        try:
            with time_limit(ADVISORY_S):
                yield
        except StorageError as error:
            if what not in self._failed_advice:
                self._failed_advice.add(what)
                self.report.note(f"note: {what} cannot be written ({error}); the run goes on")

"""What both engines share: the loop between the state of a run and the workers.

`drive` gathers events from a `Crew`, asks `state.py` what to do and has the crew do it.
A crew is the only part that differs: one worker in this process, or actors on Ray. The
loop knows the clock and the caller's hooks; it decides nothing itself and never sees a
picture.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sdbatch.engine.events import (
    Abandon,
    Assign,
    Command,
    Drain,
    Event,
    Finish,
    Kill,
    Lease,
    Progress,
    ShardFailed,
    Share,
    StartWorker,
    StopRequested,
    WorkerDied,
    WorkerReady,
)
from sdbatch.engine.run_terms import (
    EngineEvent,
    Limits,
    RoomChanged,
    RunTerms,
    WorkerLeaving,
    WorkerRefused,
)
from sdbatch.engine.state import EngineState
from sdbatch.errors import SdbatchError, StorageError
from sdbatch.model_specs import RenderSpec
from sdbatch.output_specs import ImageSpec
from sdbatch.records import RunSpec, Shard

TURN_S = 0.5
PROGRESS_EVERY_S = 0.5
CLOSE_S = 5.0


class Stop:
    """A wish to end in order, with its reason; the first one counts.

    Signal handlers and other threads set it, the loop reads it. It is a plain attribute:
    a lock could be held by the very code that a signal interrupts.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.at = 0.0

    def request(self, reason: str) -> None:
        """Ask the run to end."""
        self.at = self.at or time.monotonic()
        self.reason = self.reason or reason

    def is_set(self) -> bool:
        """Whether somebody asked."""
        return bool(self.reason)


def _unheard(_command: Command) -> None:
    """Nobody listens to commands."""


@dataclass(frozen=True, slots=True)
class EngineInput:
    """What an engine is given to run.

    Attributes:
        output: URL of the dataset.
        storage: fsspec options of that URL.
        render: What workers load; its `auto` values are settled by the first one.
        sizes: Picture sizes (width, height) in the plan.
        image: How pictures are stored.
        token: Name of the object by which workers prove that they see the output.
        shards: Open shards, in the order in which they should be leased.
        workers: Workers to have at most; None takes what there is room for, now and later.
        wait_s: Longest time with fewer workers than `limits.min_workers`.
        retries: Further attempts at a shard after an error.
        stop_after: Failed pictures of this run that end it; None for no limit.
        pulse_s: How often workers report.
        settle: Called once, with the first worker that is ready; gives what all are told.
        on_progress: Called about twice a second, and once at the end.
        on_note: One line for a person.
        on_event: Every event. `WorkerReady` before that worker is told anything, the others
            after what follows from them was done.
        on_command: Every command, before it is performed.
        limits: When the run ends early, and what it may do at its tail.
        revisions: Of the records to be created, by shard; 0 for those not named.
        run: Of the dataset, `main` or appended; its folder holds the token.
    """

    output: str
    storage: Mapping[str, Any]
    render: RenderSpec
    sizes: tuple[tuple[int, int], ...]
    token: str
    shards: Sequence[Shard]
    images_total: int
    images_done: int
    failed_done: int
    shards_total: int
    shards_done: int
    workers: int | None
    wait_s: float
    retries: int
    stop_after: int | None
    pulse_s: float
    settle: Callable[[WorkerReady], RunSpec]
    on_progress: Callable[[Progress], None]
    on_note: Callable[[str], None]
    on_event: Callable[[Event], None]
    stop: Stop
    on_command: Callable[[Command], None] = _unheard
    limits: Limits = field(default_factory=Limits)
    revisions: Mapping[int, int] = field(default_factory=dict)
    run: str = "main"
    image: ImageSpec = field(default_factory=ImageSpec)


@dataclass(frozen=True, slots=True)
class EngineResult:
    """How a run ended, and what it did in this call; counts are of shards closed in it.

    Attributes:
        reason: Why it ended early, in one line; empty when all is done.
        error: The error of a worker that ended the run, with its own type, if one did.
        startup_s: From the call of the engine to the first lease; 0 when none was given.
        workers_used: Most workers that were up at the same time.
        workers_lost: Workers that died or had to be ended.
        lost_s: Worker time in attempts that ended without a commit.
        phase_seconds: Sums over all workers, `load` included.
        worker_hours: Hours that workers were up or loading, all together.
        gpu_hours: Of these, those on a GPU.
    """

    exit_code: int
    reason: str
    error: SdbatchError | None
    shards: int
    success: int
    failed: int
    filtered: int
    row_steps: int
    lane_steps: int
    lane_slots: int
    phase_seconds: Mapping[str, float]
    startup_s: float
    seconds: float
    workers_used: int
    workers_lost: int
    lost_s: float
    worker_hours: float = 0.0
    gpu_hours: float = 0.0


class Crew(Protocol):
    """The workers of an engine: does what it is told, reports what happens.

    Commands for a worker that is gone are ignored. No method but `events` may block for
    longer than a moment.
    """

    def start(self, worker: str, render: RenderSpec) -> None:
        """Create a worker and have it load; later `WorkerReady`, `WorkerDied` or a refusal."""

    def begin(self, worker: str, spec: RunSpec) -> None:
        """Have a loaded worker work; from now on its events come."""

    def assign(self, worker: str, lease: Lease) -> None:
        """Hand over a lease."""

    def drain(self, worker: str, within_s: float | None = None) -> None:
        """Ask a worker to return its leases and end; `WorkerDied(preempted=True)` follows.

        After `within_s` the run ends without it.
        """

    def share(self, worker: str, shard_id: int) -> None:
        """Tell a worker that another one draws this shard of its too."""

    def abandon(self, worker: str, shard_id: int) -> None:
        """Have a worker drop a shard; no event of it need follow."""

    def kill(self, worker: str, reason: str) -> None:
        """End a worker at once; no event of it follows."""

    def events(self, timeout_s: float) -> list[EngineEvent]:
        """What happened, after at most `timeout_s`."""

    def close(self, timeout_s: float) -> None:
        """Drain and end all workers, the last ones by force after `timeout_s`."""


def drive(
    run: EngineInput,
    crew: Crew,
    *,
    workers: int,
    waits_for: str = "workers",
    began: float | None = None,
    rng: random.Random | None = None,
) -> EngineResult:
    """Run to the end with this crew, and close it whatever happens.

    Args:
        run: What to run.
        crew: Who does it.
        workers: Workers to have at most.
        waits_for: What a worker needs before it can start, for people: `GPUs`, `workers`.
        began: `time.monotonic()` at the call of the engine; now by default.
        rng: Source of the jitter in back-offs.

    Raises:
        SdbatchError: From `run.settle` or another hook; the crew is closed then too.
    """
    began = time.monotonic() if began is None else began
    loop = _Loop(run, crew, workers, waits_for, began, rng or random.Random())
    try:
        loop.turn_until_finished()
    finally:
        crew.close(CLOSE_S)
    return loop.result()


class _Loop:
    """One call of `drive`."""

    def __init__(
        self,
        run: EngineInput,
        crew: Crew,
        workers: int,
        waits_for: str,
        began: float,
        rng: random.Random,
    ) -> None:
        self._run, self._crew, self._began = run, crew, began
        self._spec: RunSpec | None = None
        self._finish: Finish | None = None
        self._error: SdbatchError | None = None
        self._startup_s = 0.0
        self._stop_seen = False
        self._report_at = began
        terms = RunTerms(
            workers=workers,
            waits_for=waits_for,
            wait_s=run.wait_s,
            retries=run.retries,
            stop_after=run.stop_after,
            pulse_s=run.pulse_s,
            images=run.images_total,
            images_done=run.images_done,
            failed_done=run.failed_done,
            shards=run.shards_total,
            shards_done=run.shards_done,
            limits=run.limits,
            ends_at=began + (run.limits.stop_after_s or float("inf")),
        )
        self._state = EngineState(run.shards, terms, rng, time.monotonic(), run.revisions)

    def turn_until_finished(self) -> None:
        """Gather, decide, perform; again and again."""
        self._perform(self._state.tick(time.monotonic()))
        while self._finish is None:
            if self._run.stop.is_set() and not self._stop_seen:
                self._stop_seen = True
                stop = self._run.stop
                self._take(StopRequested(stop.reason), stop.at)  # a drain's time runs from then
            for event in self._crew.events(TURN_S):
                self._take(event)
            self._perform(self._state.tick(time.monotonic()))
            self._report()
        self._run.on_progress(self._state.progress(time.monotonic()))

    def result(self) -> EngineResult:
        """What it came to."""
        finish, tally = self._finish or Finish(1, "the engine never finished"), self._state.tally
        worker_s, gpu_s = self._state.worker_seconds(time.monotonic())
        return EngineResult(
            exit_code=finish.exit_code,
            reason=finish.reason,
            error=self._error,
            shards=tally.shards,
            success=tally.success,
            failed=tally.failed,
            filtered=tally.filtered,
            row_steps=tally.row_steps,
            lane_steps=tally.lane_steps,
            lane_slots=tally.lane_slots,
            phase_seconds=dict(tally.phase_seconds),
            startup_s=self._startup_s,
            seconds=time.monotonic() - self._began,
            workers_used=tally.most_workers,
            workers_lost=tally.workers_lost,
            lost_s=tally.lost_s,
            worker_hours=worker_s / 3600,
            gpu_hours=gpu_s / 3600,
        )

    def _take(self, event: EngineEvent, at: float | None = None) -> None:
        lost_before = self._state.tally.workers_lost
        commands = self._state.handle(event, time.monotonic() if at is None else at)
        if isinstance(event, WorkerReady):
            self._run.on_event(event)  # may refuse the worker before the plan is settled
            self._begin(event)
        self._perform(commands)
        line = _note(event, lost=self._state.tally.workers_lost > lost_before)
        if line:
            self._run.on_note(line)
        if isinstance(event, WorkerRefused):
            if self._stop_seen:
                return  # it is not why the run ends
            self._error = self._error or event.error
        elif not isinstance(event, WorkerReady | WorkerLeaving | RoomChanged):
            self._run.on_event(event)

    def _begin(self, ready: WorkerReady) -> None:
        if self._spec is None:
            self._spec = self._run.settle(ready)
        self._crew.begin(ready.worker, self._spec)

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            self._run.on_command(command)
            match command:
                case StartWorker(worker):
                    self._crew.start(worker, self._spec.render if self._spec else self._run.render)
                case Assign(worker, lease):
                    self._startup_s = self._startup_s or time.monotonic() - self._began
                    self._crew.assign(worker, lease)
                case Drain(worker, within_s):
                    self._crew.drain(worker, within_s)
                case Share(worker, shard_id):
                    self._crew.share(worker, shard_id)
                case Abandon(worker, shard_id):
                    self._crew.abandon(worker, shard_id)
                case Kill(worker, reason):
                    if reason:
                        self._run.on_note(f"{worker} is ended: {reason}")
                    self._crew.kill(worker, reason)
                case Finish():
                    self._finish = command

    def _report(self) -> None:
        now = time.monotonic()
        line = self._state.waiting_line(now)
        if line:
            self._run.on_note(line)
        if now >= self._report_at:
            self._report_at = now + PROGRESS_EVERY_S
            self._run.on_progress(self._state.progress(now))


def _note(event: EngineEvent, lost: bool) -> str:
    """What a person should hear of an event; empty for most.

    Args:
        event: What happened.
        lost: A worker was lost by it, rather than ended in order.
    """
    match event:
        case WorkerDied(preempted=False, init_failed=True):
            return f"{event.worker} failed to start: {event.message}"
        case WorkerDied() if lost:
            how = "was taken away" if event.preempted else "died"
            return f"{event.worker} {how}: {event.message}; its shards are leased again"
        case WorkerLeaving():
            return f"{event.worker} is drained: its node is about to leave"
        case ShardFailed(retryable=True, exit_code=StorageError.exit_code, worker_unfit=False):
            return ""  # the store's fault: said once for all shards, by `waiting_line`
        case ShardFailed():
            return f"shard {event.shard_id:05d} failed on {event.worker}: {event.message}"
        case _:
            return ""

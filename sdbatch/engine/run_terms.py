"""What a run is held to, what it came to, and two events that only engines see.

`events.py` holds what workers say; a worker cannot say that its node is about to leave,
nor whether its failure to load concerns all others as well. Plain data, no decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sdbatch.engine.events import Event, ShardDone
from sdbatch.errors import SdbatchError


@dataclass(frozen=True, slots=True)
class WorkerRefused:
    """A worker could not load, for a reason that every other worker would meet too."""

    worker: str
    error: SdbatchError


@dataclass(frozen=True, slots=True)
class WorkerLeaving:
    """A worker's node is about to be taken away."""

    worker: str


EngineEvent = Event | WorkerRefused | WorkerLeaving


@dataclass(frozen=True, slots=True)
class RunTerms:
    """What a run is held to; the counts are those before it began.

    Attributes:
        workers: Workers wanted.
        waits_for: What a worker needs before it can start, for people: `GPUs`, `workers`.
        wait_s: Longest time without any worker.
        retries: Further attempts at a shard after an error.
        stop_after: Failed pictures of this run that end it; None for no limit.
        pulse_s: How often workers report.
    """

    workers: int
    waits_for: str
    wait_s: float
    retries: int
    stop_after: int | None
    pulse_s: float
    images: int
    images_done: int
    failed_done: int
    shards: int
    shards_done: int


@dataclass(slots=True)
class Tally:
    """Sums over the shards that this run saw committed, and what it lost.

    Attributes:
        most_workers: Most workers that were up at the same time.
        workers_lost: Workers that died or had to be ended.
        lost_s: Worker time in attempts that ended without a commit.
    """

    shards: int = 0
    success: int = 0
    failed: int = 0
    filtered: int = 0
    row_steps: int = 0
    lane_steps: int = 0
    lane_slots: int = 0
    phase_seconds: dict[str, float] = field(default_factory=dict)
    most_workers: int = 0
    workers_lost: int = 0
    lost_s: float = 0.0

    def add(self, done: ShardDone) -> None:
        """Count a shard."""
        self.shards += 1
        self.success += done.success
        self.failed += done.failed
        self.filtered += done.filtered
        self.row_steps += done.row_steps
        self.lane_steps += done.lane_steps
        self.lane_slots += done.lane_slots
        for phase, seconds in done.phase_seconds.items():
            self.phase_seconds[phase] = self.phase_seconds.get(phase, 0.0) + seconds

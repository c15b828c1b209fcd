"""What a run is held to, what it came to, and three events that only engines see.

`events.py` holds what workers say; a worker cannot say that its node is about to leave,
that there is room for others, nor whether its failure to load concerns them as well.
Plain data, no decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sdbatch.engine.events import Event, ShardDone
from sdbatch.errors import SdbatchError
from sdbatch.plan.budget import Budget


@dataclass(frozen=True, slots=True)
class WorkerRefused:
    """A worker could not load, for a reason that every other worker would meet too."""

    worker: str
    error: SdbatchError


@dataclass(frozen=True, slots=True)
class WorkerLeaving:
    """A worker's node is about to be taken away."""

    worker: str


@dataclass(frozen=True, slots=True)
class RoomChanged:
    """Nodes came or went: this many workers have room now, those that are up included.

    A crew says so only where the caller left the number of workers to it (`auto`); else
    workers beyond the room are started all the same and wait: an autoscaler sees them.
    """

    workers: int


EngineEvent = Event | WorkerRefused | WorkerLeaving | RoomChanged


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run ends early, and what it may do at its tail.

    Attributes:
        min_workers: With fewer than these up for `wait_s` the run ends.
        speculate: Whether an idle worker joins another in its shard when nothing waits.
        stop_after_s: Wall time after which the run drains; None for no limit.
        drain_s: Longest time that a drain may take.
        outage_s: Longest time of a store that fails before the run ends.
        budget: Pictures of the dataset and hours of this call after which the run drains.
    """

    min_workers: int = 1
    speculate: bool = True
    stop_after_s: float | None = None
    drain_s: float = 120.0
    outage_s: float = 600.0
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class RunTerms:
    """What a run is held to; the counts are those before it began.

    Attributes:
        workers: Workers to have at most.
        waits_for: What a worker needs before it can start, for people: `GPUs`, `workers`.
        wait_s: Longest time with fewer workers than `limits.min_workers`.
        retries: Further attempts at a shard after an error.
        stop_after: Failed pictures of this run that end it; None for no limit.
        pulse_s: How often workers report.
        ends_at: When `limits.stop_after_s` is over, on the state's clock.
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
    limits: Limits = field(default_factory=Limits)
    ends_at: float = float("inf")


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

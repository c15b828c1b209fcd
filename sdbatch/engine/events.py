"""What workers and engines say to one another.

Leases go down, events come up: plain data of a few hundred bytes, one per shard or
pulse, never per picture. Picture bytes go from a worker straight to storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdbatch.model_specs import RenderEnv
from sdbatch.records import Shard

CARE_NORMAL, CARE_PARTS, CARE_ALONE = 0, 1, 2
"""How carefully a shard is drawn after deaths: as usual; a part after every few
pictures; one picture at a time, a part after each."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Permission to draw a shard. It is no lock: the commit record alone decides.

    Attributes:
        attempt: From 1, how often this shard has been leased in this run.
        care: One of `CARE_NORMAL`, `CARE_PARTS`, `CARE_ALONE`.
        give_up_first: The first picture not yet finished has killed its process twice
            while alone: it is written down as failed.
        revision: Of the commit record to be created; above 0 the shard exists already and
            `RunSpec.redo` says which of its pictures are drawn again.
        reverse: A second lease on a slow shard: draws its rows from the other end.
    """

    shard: Shard
    attempt: int
    care: int = CARE_NORMAL
    give_up_first: bool = False
    revision: int = 0
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker holds a loaded model and sees the output.

    Attributes:
        worker: Name given by the engine (`w0`, `w1`, ...).
        node: Host it runs on.
        lanes: L per picture size it can run.
        load_seconds: From start of loading to ready.
        notes: What a person should hear of its device.
    """

    worker: str
    node: str
    env: RenderEnv
    lanes: Mapping[str, int]
    load_seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pulse:
    """A worker is alive: what it holds, every few seconds.

    Attributes:
        finished: Pictures finished (drawn or failed) in each open shard.
        in_flight: Pictures in lanes.
        phase: What it does now: `waiting`, `drawing`, `writing`.
        saved: Parts that this worker has stored so far: a sign that the store works.
    """

    worker: str
    finished: Mapping[int, int]
    in_flight: int
    phase: str
    saved: int = 0


@dataclass(frozen=True, slots=True)
class PictureFact:
    """What the canary is told of one picture: see `canary.py`.

    Attributes:
        request: 64 bits of its `row_hash`.
        picture: 64 bits of a hash over its pixels; 0 where there are none.
        flaw: `black`, `nan`, `blank` (one colour), `failed` (for another reason), or empty.
    """

    request: int
    picture: int
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class FirstPictures:
    """What a worker drew first, a few pictures at a time and no more than the canary needs."""

    worker: str
    facts: tuple[PictureFact, ...]


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard is committed, by this attempt (`won`) or by another.

    The counts are those of the standing commit record.

    Attributes:
        taken_over: Of its pictures, those that were not drawn for this revision.
        unscored: Of those that were drawn, how many lack a score.
        notes: What a person should hear of the worker's renderer, as far as it knows by now.
    """

    worker: str
    shard_id: int
    won: bool
    success: int
    failed: int
    filtered: int
    row_steps: int
    lane_steps: int
    lane_slots: int
    phase_seconds: Mapping[str, float]
    taken_over: int = 0
    unscored: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardFailed:
    """An attempt at a shard ended without a commit.

    Attributes:
        exit_code: That of the error (`errors.py`), used when attempts run out.
        retryable: Whether another attempt can help.
        worker_unfit: The worker cannot go on (broken device, second out-of-memory): replace it.
    """

    worker: str
    shard_id: int
    error_type: str
    message: str
    exit_code: int
    retryable: bool
    worker_unfit: bool = False


@dataclass(frozen=True, slots=True)
class StoreTrouble:
    """The store fails a worker, which waits with what it has finished and tries again.

    Attributes:
        failing_s: Since its first call that failed was begun.
        first: The first word of it; others follow with every further failure.
    """

    worker: str
    message: str
    failing_s: float
    first: bool


@dataclass(frozen=True, slots=True)
class LeaseReturned:
    """A drained worker gives a shard back; what was finished stands in a part."""

    worker: str
    shard_id: int


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker's process is gone.

    Attributes:
        init_failed: It died or raised while starting or loading.
        preempted: Its node was taken away: counts against no row.
        message: One line for a person.
    """

    worker: str
    init_failed: bool
    preempted: bool
    message: str
    exit_code: int = 5


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A signal or a limit asks for an orderly end."""

    reason: str


Event = (
    WorkerReady
    | Pulse
    | FirstPictures
    | ShardDone
    | ShardFailed
    | StoreTrouble
    | LeaseReturned
    | WorkerDied
    | StopRequested
)


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Create a worker and load the model there."""

    worker: str


@dataclass(frozen=True, slots=True)
class Assign:
    """Hand a lease to a worker."""

    worker: str
    lease: Lease


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask a worker to finish what is in flight, store a part and return its leases.

    Attributes:
        within_s: It is ended after this, come what may; None when nobody waits for it.
    """

    worker: str
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """Tell a worker that another one draws its shard too, from the other end.

    Both now store parts every few seconds and take over those of the other, so that they
    meet in the middle.
    """

    worker: str
    shard_id: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Have a worker drop a shard without a word: another has committed it, or is to draw it."""

    worker: str
    shard_id: int


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker's process at once; without a reason it is merely needed no longer."""

    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is left to decide.

    Attributes:
        exit_code: 0 when every shard is committed, 75 stopped early, 3 or 5 as the error says.
        reason: One line; empty when all is done.
    """

    exit_code: int
    reason: str


Command = StartWorker | Assign | Drain | Share | Abandon | Kill | Finish


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for people.

    Attributes:
        images: Planned pictures; of a retry, those that it draws.
        done: Of these, those in committed shards, earlier runs included.
        finished: Pictures drawn in shards still open.
        failed: Failed pictures in committed shards.
        workers_up: Workers that are ready.
        workers_wanted: Workers the run asked for.
        in_flight: Pictures in lanes.
        workers_starting: Workers that load, or wait for a place to do so.
        worker_hours: Hours that workers have been up or loading in this call, all together.
        gpu_hours: Of these, those on a GPU.
        paused: Why no shard is begun at the moment; empty as a rule.
    """

    images: int
    done: int
    finished: int
    failed: int
    shards: int
    shards_done: int
    workers_up: int
    workers_wanted: int
    in_flight: int
    workers_starting: int = 0
    worker_hours: float = 0.0
    gpu_hours: float = 0.0
    paused: str = ""

"""A run on Ray: one actor per GPU, or per worker wanted where there are no GPUs.

The only file of the run path that knows actors. Leases and events pass through Ray, a
few hundred bytes each; pictures never do. Ray restarts and retries nothing by itself
(`max_restarts=0`): a death is an event like any other, and `state.py` answers it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import ray
import ray._private.state
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from sdbatch.engine.driver_loop import EngineInput, EngineResult, drive
from sdbatch.engine.events import Lease, WorkerDied
from sdbatch.engine.ray_cluster import connection
from sdbatch.engine.run_terms import EngineEvent, WorkerLeaving, WorkerRefused
from sdbatch.engine.worker import Worker
from sdbatch.errors import InputError, SdbatchError, StorageError
from sdbatch.records import RenderSpec, RunSpec

LOOK_AT_NODES_EVERY_S = 1.0
LONGEST_MESSAGE = 300
PULSES_PER_S = 50  # from all workers together, about 2 % of a core


def run_on_ray(
    run: EngineInput,
    address: str | None,
    cpu_threads: int,
    worker_class: type = Worker,
    dashboard: bool = False,
) -> EngineResult:
    """Run on a cluster at `address`, or on one started here for this run alone.

    Args:
        run: What to run.
        address: `auto` or HOST:PORT; None for this machine.
        cpu_threads: CPUs that a worker takes.
        worker_class: `engine/worker.py`'s, unless a test brings its own.
        dashboard: Whether a cluster started here shows Ray's dashboard.

    Raises:
        JobError: The address is one of Ray Client.
        EngineError: Ray cannot be started or reached.
        SdbatchError: From one of the run's hooks.
    """
    began = time.monotonic()
    num_cpus = None if run.workers is None else run.workers * cpu_threads
    with connection(address, num_cpus, dashboard):
        room = _room(run, address, cpu_threads)
        run = replace(run, pulse_s=max(run.pulse_s, room.workers / PULSES_PER_S))
        crew = RayCrew(run, worker_class, room.gpus_each, cpu_threads)
        waits_for = "GPUs" if room.gpus_each else "workers"
        return drive(run, crew, workers=room.workers, waits_for=waits_for, began=began)


@dataclass(frozen=True, slots=True)
class _Room:
    workers: int
    gpus_each: int


def _room(run: EngineInput, address: str | None, cpu_threads: int) -> _Room:
    """How many workers, and whether each takes a GPU."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    if run.render.model_path.startswith("fake:"):
        gpus = 0  # drawn without torch
    if gpus and run.workers is not None and run.workers > gpus and address is None:
        run.on_note(f"{run.workers} workers wanted, this machine has {gpus} GPUs: {gpus} workers")
        return _Room(gpus, 1)
    fitting = gpus or int(resources.get("CPU", 1)) // cpu_threads
    return _Room(run.workers or max(1, fitting), 1 if gpus else 0)


class _Answer(Enum):
    """What the value of a reference means."""

    NODE = "the node that an actor runs on"
    READY = "a loaded model"
    EVENTS = "a stream of events"
    NOTHING = "an order was taken"


@dataclass(slots=True)
class _Member:
    """One actor.

    Attributes:
        node: Ray's id of its node; empty until the actor runs.
        loading: It has not begun to work.
        draining: It was asked to drain: its end is no death.
    """

    actor: Any
    node: str = ""
    loading: bool = True
    draining: bool = False


class RayCrew:
    """The actors of a run, and the references that become their events."""

    def __init__(
        self, run: EngineInput, worker_class: type, gpus_each: int, cpu_threads: int
    ) -> None:
        self._run = run
        self._actor_class = ray.remote(
            num_gpus=gpus_each,
            num_cpus=cpu_threads,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"ctl": 1},
        )(worker_class)
        self._members: dict[str, _Member] = {}
        self._pending: dict[Any, tuple[str, _Answer]] = {}
        self._look_at_nodes_at = 0.0

    # -- commands ----------------------------------------------------------------------

    def start(self, worker: str, render: RenderSpec) -> None:
        """Create an actor and have it load; it waits inside Ray until there is room."""
        run = self._run
        actor = self._actor_class.remote(worker, run.output, dict(run.storage), run.pulse_s)
        self._members[worker] = _Member(actor)
        self._pending[actor.__ray_call__.remote(_node_id)] = worker, _Answer.NODE
        self._pending[actor.load.remote(render, run.sizes, run.token)] = worker, _Answer.READY

    def begin(self, worker: str, spec: RunSpec) -> None:
        """Have a loaded worker work; its events stream back."""
        member = self._members.get(worker)
        if member is not None:
            member.loading = False
            stream = member.actor.work.options(num_returns="streaming").remote(spec)
            self._pending[stream] = worker, _Answer.EVENTS

    def assign(self, worker: str, lease: Lease) -> None:
        """Hand over a lease."""
        self._order(worker, "offer", lease)

    def drain(self, worker: str) -> None:
        """Ask a worker to return its leases and end."""
        if worker in self._members:
            self._members[worker].draining = True
            self._order(worker, "drain")

    def kill(self, worker: str, reason: str) -> None:  # noqa: ARG002  # the loop tells it
        """End an actor at once and forget it."""
        member = self._members.pop(worker, None)
        if member is not None:
            self._pending = {ref: of for ref, of in self._pending.items() if of[0] != worker}
            ray.kill(member.actor, no_restart=True)

    def close(self, timeout_s: float) -> None:
        """Let workers end in order, so that they clear their disks; then end the rest."""
        for worker, member in list(self._members.items()):
            if member.loading:
                self.kill(worker, "the run is over")
            elif not member.draining:
                self.drain(worker)
        deadline = time.monotonic() + timeout_s
        while self._members and time.monotonic() < deadline:
            self.events(0.1)
        for worker in list(self._members):
            self.kill(worker, "the run is over")

    def _order(self, worker: str, method: str, *args: object) -> None:
        """Call a method that answers at once, also while the worker works."""
        member = self._members.get(worker)
        if member is not None:
            call = getattr(member.actor, method).options(concurrency_group="ctl")
            self._pending[call.remote(*args)] = worker, _Answer.NOTHING

    # -- events ------------------------------------------------------------------------

    def events(self, timeout_s: float) -> list[EngineEvent]:
        """Sleep until something happens, then take all that has happened."""
        found = self._leaving()
        refs = list(self._pending)
        if not refs:
            time.sleep(timeout_s)
            return found
        # Asked for all at once, `ray.wait` sleeps its full time unless all are ready.
        ray.wait(refs, num_returns=1, timeout=0 if found else timeout_s, fetch_local=False)
        done, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in done:
            if ref in self._pending:  # else its actor was found dead a moment ago
                found += self._read(ref)
        return found

    def _read(self, ref: Any) -> list[EngineEvent]:
        worker, answer = self._pending[ref]
        try:
            if answer is _Answer.EVENTS:
                return [ray.get(next(ref))]
            del self._pending[ref]
            value = ray.get(ref)
        except StopIteration:
            return [self._ended(worker)]
        except RayError as error:
            return [self._lost(worker, error)]
        if answer is _Answer.NODE:
            self._members[worker].node = value
        return [value] if answer is _Answer.READY else []

    def _ended(self, worker: str) -> EngineEvent:
        """The stream of `work` is over: in order after a drain, else the worker is unfit."""
        drained = self._members[worker].draining
        self.kill(worker, "its work is over")
        return WorkerDied(
            worker, init_failed=False, preempted=drained, message="it stopped by itself"
        )

    def _lost(self, worker: str, error: RayError) -> EngineEvent:
        """Say what an error of Ray means; the actor is ended, for none can go on."""
        member = self._members[worker]
        self.kill(worker, "lost")
        if isinstance(error, RayTaskError):
            cause = error.cause
            message, exit_code = _line(cause), getattr(cause, "exit_code", 5)
            hopeless = isinstance(cause, InputError | StorageError) and not cause.retryable
            if member.loading and hopeless:
                return WorkerRefused(worker, cause)
            return WorkerDied(worker, member.loading, False, message, exit_code)
        # Unreachable, yet not known to be dead: its node or the network is gone. It may go
        # on for a while; commit records make that harmless.
        gone = isinstance(error, ActorUnavailableError) or not _alive(member.node)
        preempted = gone or (isinstance(error, RayActorError) and error.preempted)
        return WorkerDied(worker, member.loading, preempted or member.draining, _line(error))

    def _leaving(self) -> list[EngineEvent]:
        """Workers whose node is being drained; asked once a second."""
        now = time.monotonic()
        if now < self._look_at_nodes_at:
            return []
        self._look_at_nodes_at = now + LOOK_AT_NODES_EVERY_S
        try:
            nodes = ray._private.state.state.get_draining_nodes()
        except (AttributeError, RayError, RuntimeError):
            return []  # not part of Ray's promised interface
        return [
            WorkerLeaving(worker)
            for worker, member in self._members.items()
            if member.node in nodes and not member.draining
        ]


def _node_id(_worker: object) -> str:
    """The node of the actor that runs this."""
    return str(ray.get_runtime_context().get_node_id())


def _alive(node: str) -> bool:
    """Whether a node is known to live; the unknown is taken for living."""
    return not any(known["NodeID"] == node and not known["Alive"] for known in ray.nodes())


def _line(error: BaseException) -> str:
    """An error in one line: the words of our own, the essence of Ray's."""
    if isinstance(error, SdbatchError):
        return str(error)
    if isinstance(error, ActorUnavailableError):
        return "its node cannot be reached"
    if not isinstance(error, RayError):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST_MESSAGE]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("unexpectedly exits" in line for line in lines):
        pid = next((line for line in lines if line.startswith("pid:")), "pid unknown")
        return f"its process was killed or crashed ({pid.replace(':', '')})"
    return lines[-1][:LONGEST_MESSAGE]

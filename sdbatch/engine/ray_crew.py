"""The actors of a run on Ray, and the references that become their events.

Leases and events pass through Ray, a few hundred bytes each; pictures never do. Ray
restarts and retries nothing by itself (`max_restarts=0`): a death is an event like any
other, and `state.py` answers it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from sdbatch.engine.driver_loop import EngineInput
from sdbatch.engine.events import Lease, WorkerDied
from sdbatch.engine.ray_room import ClusterRoom, alive_nodes, leaving_nodes
from sdbatch.engine.ray_suspects import Suspects
from sdbatch.engine.run_terms import EngineEvent, RoomChanged, WorkerLeaving, WorkerRefused
from sdbatch.engine.spool_room import spool_bytes
from sdbatch.errors import InputError, SdbatchError, StorageError
from sdbatch.model_specs import RenderSpec
from sdbatch.records import RunSpec

LOOK_AT_NODES_EVERY_S = 1.0
LONGEST_MESSAGE = 300


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
    """See `driver_loop.Crew`."""

    def __init__(
        self, run: EngineInput, worker_class: type, room: ClusterRoom, cpu_threads: int
    ) -> None:
        self._run, self._room = run, room
        self._spool_bytes = spool_bytes(run.shards, run.sizes, run.image)
        self._actor_class = ray.remote(
            num_gpus=room.gpus_each,
            num_cpus=cpu_threads,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"ctl": 1},
        )(worker_class)
        self._members: dict[str, _Member] = {}
        self._pending: dict[Any, tuple[str, _Answer]] = {}
        self._suspects = Suspects()
        self._leaving: dict[str, int] = {}
        self._look_at_nodes_at = 0.0

    # -- commands ----------------------------------------------------------------------

    def start(self, worker: str, render: RenderSpec) -> None:
        """Create an actor and have it load; it waits inside Ray until there is room."""
        run = self._run
        actor = self._actor_class.remote(worker, run.output, dict(run.storage), run.pulse_s)
        self._members[worker] = _Member(actor)
        self._pending[actor.__ray_call__.remote(_node_id)] = worker, _Answer.NODE
        told = (run.sizes, run.token, self._spool_bytes, run.run, run.image)
        ready = actor.load.remote(render, *told)
        self._pending[ready] = worker, _Answer.READY

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

    def share(self, worker: str, shard_id: int) -> None:
        """Tell a worker that another one draws its shard too."""
        self._order(worker, "share", shard_id)

    def abandon(self, worker: str, shard_id: int) -> None:
        """Have a worker drop a shard."""
        self._order(worker, "abandon", shard_id)

    def drain(self, worker: str, within_s: float | None = None) -> None:
        """Ask a worker to return its leases and end, within the notice that its node has."""
        member = self._members.get(worker)
        if member is not None:
            member.draining = True
            deadline_ms = self._leaving.get(member.node, 0)
            if deadline_ms > 0:
                notice_s = max(deadline_ms / 1000 - time.time(), 0.0)
                within_s = notice_s if within_s is None else min(notice_s, within_s)
            self._order(worker, "drain", within_s)

    def kill(self, worker: str, reason: str) -> None:  # noqa: ARG002  # the loop tells it
        """End an actor at once and forget it."""
        member = self._forget(worker)
        if member is not None:
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
        self._suspects.kill_all()

    def _order(self, worker: str, method: str, *args: object) -> None:
        """Call a method that answers at once, also while the worker works."""
        member = self._members.get(worker)
        if member is not None:
            call = getattr(member.actor, method).options(concurrency_group="ctl")
            self._pending[call.remote(*args)] = worker, _Answer.NOTHING

    def _forget(self, worker: str) -> _Member | None:
        member = self._members.pop(worker, None)
        if member is not None:
            self._pending = {ref: of for ref, of in self._pending.items() if of[0] != worker}
        return member

    # -- events ------------------------------------------------------------------------

    def events(self, timeout_s: float) -> list[EngineEvent]:
        """Sleep until something happens, then take all that has happened."""
        found = self._look_at_nodes()
        refs = list(self._pending)
        if not refs:
            time.sleep(0 if found else timeout_s)
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
        """Say what an error of Ray means for an actor that can serve no longer."""
        member = self._members[worker]
        if isinstance(error, ActorUnavailableError):
            # Out of reach, yet not known to be dead. Its leases go elsewhere at once; should
            # it go on, the commit records make that harmless.
            self._forget(worker)
            self._suspects.add(member.actor)
            return WorkerDied(worker, member.loading, preempted=True, message=_line(error))
        self.kill(worker, "lost")
        if isinstance(error, RayTaskError):
            cause = error.cause
            message, exit_code = _line(cause), getattr(cause, "exit_code", 5)
            hopeless = isinstance(cause, InputError | StorageError) and not cause.retryable
            if member.loading and hopeless:
                return WorkerRefused(worker, cause)
            return WorkerDied(worker, member.loading, False, message, exit_code)
        gone = member.node in self._leaving or not _alive(member.node)
        preempted = gone or (isinstance(error, RayActorError) and error.preempted)
        return WorkerDied(worker, member.loading, preempted or member.draining, _line(error))

    def _look_at_nodes(self) -> list[EngineEvent]:
        """Workers whose node is being drained, and room that came or went; once a second."""
        now = time.monotonic()
        if now < self._look_at_nodes_at:
            return []
        self._look_at_nodes_at = now + LOOK_AT_NODES_EVERY_S
        self._suspects.look(now)
        self._leaving = leaving_nodes()
        found: list[EngineEvent] = [
            WorkerLeaving(worker)
            for worker, member in self._members.items()
            if member.node in self._leaving and not member.draining
        ]
        if self._room.changed(self._leaving):
            found.append(RoomChanged(self._room.workers))
        return found


def _node_id(_worker: object) -> str:
    """The node of the actor that runs this."""
    return str(ray.get_runtime_context().get_node_id())


def _alive(node: str) -> bool:
    """Whether a node lives; an actor that never ran has none, and is no reason for doubt."""
    return not node or any(known["NodeID"] == node for known in alive_nodes())


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

"""The same run in this process: one worker, no Ray.

For machines with one device, for tests, and wherever Ray does not run. The worker's code,
the state machine and the loop are those of a cluster; only the crew is a thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from sdbatch.engine.driver_loop import EngineInput, EngineResult, drive
from sdbatch.engine.events import Lease, WorkerDied
from sdbatch.engine.run_terms import EngineEvent, WorkerRefused
from sdbatch.engine.spool_room import spool_bytes
from sdbatch.engine.worker import Worker
from sdbatch.errors import InputError, StorageError
from sdbatch.model_specs import RenderSpec
from sdbatch.records import RunSpec

Make = Callable[[str], Worker]


def run_inline(run: EngineInput, make_worker: Make | None = None) -> EngineResult:
    """Run to the end in this process.

    Args:
        run: What to run; its `workers` is not read, there is one.
        make_worker: How to make the worker; tests give their own.

    Raises:
        SdbatchError: From a hook of `run`.
    """

    def make(name: str) -> Worker:
        return Worker(name, run.output, run.storage, run.pulse_s)

    return drive(run, InlineCrew(run, make_worker or make), workers=1, waits_for="the model")


class InlineCrew:
    """One worker on threads of this process; see `driver_loop.Crew`."""

    def __init__(self, run: EngineInput, make_worker: Make) -> None:
        self._run = run
        self._make = make_worker
        self._workers: dict[str, Worker] = {}
        self._threads: list[threading.Thread] = []
        self._events: queue.SimpleQueue[tuple[str, EngineEvent]] = queue.SimpleQueue()

    def start(self, worker: str, render: RenderSpec) -> None:
        """Load the model on a thread, so that signals are heard meanwhile."""
        self._workers[worker] = self._make(worker)
        self._spawn(self._load, worker, render)

    def begin(self, worker: str, spec: RunSpec) -> None:
        """Have the loaded worker work."""
        if worker in self._workers:
            self._spawn(self._work, worker, spec)

    def assign(self, worker: str, lease: Lease) -> None:
        """Hand over a lease."""
        if worker in self._workers:
            self._workers[worker].offer(lease)

    def drain(self, worker: str, within_s: float | None = None) -> None:
        """Ask the worker to return its leases and end."""
        if worker in self._workers:
            self._workers[worker].drain(within_s)

    def share(self, worker: str, shard_id: int) -> None:
        """Tell the worker that another one draws this shard too."""
        if worker in self._workers:
            self._workers[worker].share(shard_id)

    def abandon(self, worker: str, shard_id: int) -> None:
        """Have the worker drop a shard."""
        if worker in self._workers:
            self._workers[worker].abandon(shard_id)

    def kill(self, worker: str, reason: str) -> None:  # noqa: ARG002  # a crew's signature
        """Let go of the worker: a thread cannot be ended, but nothing of it is heard any more."""
        gone = self._workers.pop(worker, None)
        if gone is not None:
            gone.drain()

    def events(self, timeout_s: float) -> list[EngineEvent]:
        """What happened, after at most `timeout_s`."""
        found: list[EngineEvent] = []
        try:
            name, event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return found
        while True:
            if name in self._workers:
                found.append(event)
                if isinstance(event, WorkerDied):
                    del self._workers[name]
            if self._events.empty():
                return found
            name, event = self._events.get()

    def close(self, timeout_s: float) -> None:
        """Drain the worker and wait for its threads."""
        for worker in self._workers.values():
            worker.drain()
        for thread in self._threads:
            thread.join(timeout_s)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=target.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _load(self, name: str, render: RenderSpec) -> None:
        run = self._run
        try:
            disk = spool_bytes(run.shards, run.sizes, run.image)
            worker = self._workers[name]
            self._put(name, worker.load(render, run.sizes, run.token, disk, run.run, run.image))
        except (InputError, StorageError) as error:
            self._put(name, WorkerRefused(name, error))
        except Exception as error:  # noqa: BLE001  # a library's refusal to load
            line = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._put(name, WorkerDied(name, init_failed=True, preempted=False, message=line))

    def _work(self, name: str, spec: RunSpec) -> None:
        for event in self._workers[name].work(spec):
            self._put(name, event)
        self._put(name, WorkerDied(name, init_failed=False, preempted=True, message="drained"))

    def _put(self, name: str, event: EngineEvent) -> None:
        self._events.put((name, event))

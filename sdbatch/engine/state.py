"""Who draws which shard: every decision of a run, and none of its effects.

Events come in, commands go out. There is no Ray here, no clock, no file and no log:
time arrives with each call, chance through the generator given. So the hard cases (a
worker dies while it commits, a row kills every process that touches it, a signal in
mid-run) are ordinary unit tests. An engine performs the commands and reports events.

`shard_queue.py` keeps the shards, `worker_pool.py` the workers; here they meet.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from sdbatch.engine.events import (
    Assign,
    Command,
    Drain,
    Finish,
    FirstPictures,
    Kill,
    LeaseReturned,
    Progress,
    Pulse,
    ShardDone,
    ShardFailed,
    StartWorker,
    StopRequested,
    WorkerDied,
    WorkerReady,
)
from sdbatch.engine.run_terms import EngineEvent, RunTerms, Tally, WorkerLeaving, WorkerRefused
from sdbatch.engine.shard_queue import ShardQueue
from sdbatch.engine.worker_pool import Phase, WorkerPool, WorkerView, duration
from sdbatch.records import Shard

MAX_LEASES = 2
MAX_INIT_FAILURES = 3
MAX_BARREN_DEATHS = 6  # the ladder of care needs five to get past a row that kills
DRAIN_S = 120.0
DONE, ROWS_FAILED, ENGINE, STOPPED = 0, 4, 5, 75


class EngineState:
    """The state of one run. Not thread-safe; one loop owns it.

    Args:
        shards: Open shards in the order in which they should be leased.
        rng: Source of the jitter in back-offs.
        now: Seconds on the clock that all later calls use.
    """

    def __init__(
        self, shards: Iterable[Shard], terms: RunTerms, rng: random.Random, now: float
    ) -> None:
        self._terms = terms
        self._queue = ShardQueue(shards, terms.retries)
        wanted = max(1, min(terms.workers, self._queue.num_open))
        self._pool = WorkerPool(wanted, terms.wait_s, rng, now)
        self._ending: Finish | None = None
        self._deadline = float("inf")
        self._over = False
        self._last_trouble = ""
        self._shard_seconds: float | None = None
        self.tally = Tally()

    # -- in: events and time; out: commands -------------------------------------------

    def handle(self, event: EngineEvent, now: float) -> list[Command]:
        """Take one event into account and say what to do next."""
        if self._over:
            return []
        commands: list[Command] = []
        match event:
            case WorkerReady():
                commands = self._ready(event, now)
            case Pulse():
                return self._pulse(event, now)  # the most frequent event touches one worker
            case FirstPictures():
                return []  # the canary reads them, and may ask for a stop
            case ShardDone():
                self._done(event, now)
            case ShardFailed():
                commands = self._failed(event, now)
            case LeaseReturned():
                self._returned(event, now)
            case WorkerDied():
                self._died(event, now)
            case WorkerRefused():
                self._end(event.error.exit_code, str(event.error), now, at_once=True)
            case WorkerLeaving():
                commands = self._leaving(event)
            case StopRequested():
                commands = self._end(STOPPED, event.reason, now)
        return commands + self._decide(now)

    def tick(self, now: float) -> list[Command]:
        """Say what is due by the clock alone; call about twice a second."""
        if self._over:
            return []
        commands: list[Command] = []
        for name, reason in self._pool.hung(now):
            commands.append(Kill(name, reason))
            self._lose(name, now, blame=True, trouble=f"{name} was {reason}")
        self._queue.wake(now)
        if self._pool.overdue(now) and self._ending is None:
            why = self._last_trouble or f"still waiting for {self._terms.waits_for}"
            line = f"no worker came up within {duration(self._terms.wait_s)}: {why}"
            self._end(ENGINE, line, now, at_once=True)
        return commands + self._decide(now)

    # -- for people -------------------------------------------------------------------

    def progress(self) -> Progress:
        """Where the run stands."""
        views = self._pool.views.values()
        terms, tally = self._terms, self.tally
        return Progress(
            images=terms.images,
            done=terms.images_done + tally.success + tally.failed + tally.filtered,
            finished=self._queue.num_finished_images,
            failed=terms.failed_done + tally.failed,
            shards=terms.shards,
            shards_done=terms.shards_done + tally.shards,
            workers_up=sum(view.phase is not Phase.STARTING for view in views),
            workers_wanted=self._pool.wanted,
            in_flight=sum(view.in_flight for view in views),
        )

    def waiting_line(self, now: float) -> str | None:
        """A line every 30 s while no worker is up; None when none is due."""
        if self._over or self._ending is not None:
            return None
        return self._pool.waiting_line(self._terms.waits_for, now)

    # -- events -----------------------------------------------------------------------

    def _ready(self, event: WorkerReady, now: float) -> list[Command]:
        if event.worker not in self._pool.views:
            return []
        self._pool.came_up(event.worker, now)
        phases = self.tally.phase_seconds
        phases["load"] = phases.get("load", 0.0) + event.load_seconds
        up = len(self._pool.views) - self._pool.count(Phase.STARTING)
        self.tally.most_workers = max(self.tally.most_workers, up)
        if self._ending is not None:
            self._pool.views[event.worker].phase = Phase.DRAINING
            return [Drain(event.worker)]
        return []

    def _pulse(self, event: Pulse, now: float) -> list[Command]:
        view = self._pool.views.get(event.worker)
        if view is None:
            return []
        self._pool.heard(view, event, now)
        for shard_id in view.leases:
            if shard_id in event.finished:
                self._queue.note_finished(shard_id, event.finished[shard_id])
        return [] if self._ending is not None else self._assign([view], now)

    def _done(self, event: ShardDone, now: float) -> None:
        view, lease_began = self._release(event.worker, event.shard_id, now)
        if view is not None:
            self._shard_seconds = now - lease_began
            self._pool.barren_deaths = 0
        if self._queue.close(event.shard_id) is None:
            return  # closed by another attempt: count it once
        self.tally.add(event)

    def _failed(self, event: ShardFailed, now: float) -> list[Command]:
        view, lease_began = self._release(event.worker, event.shard_id, now)
        if view is None:
            return []
        self._last_trouble = event.message
        self.tally.lost_s += now - lease_began
        commands: list[Command] = []
        again = self._queue.put_back_failed(event.shard_id, now) and event.retryable
        if not again and self._ending is None:
            where = f"shard {event.shard_id:05d}: " if event.shard_id >= 0 else ""
            commands += self._end(event.exit_code or ENGINE, f"{where}{event.message}", now)
        if event.worker_unfit:
            commands.append(Kill(event.worker, event.message))
            self._lose(event.worker, now, blame=False, trouble=event.message)
        return commands

    def _returned(self, event: LeaseReturned, now: float) -> None:
        view, _ = self._release(event.worker, event.shard_id, now)
        if view is not None:
            self._queue.put_back(event.shard_id)

    def _died(self, event: WorkerDied, now: float) -> None:
        if event.worker not in self._pool.views:
            return  # killed by us, and counted then
        if event.preempted:
            self._take_back(self._pool.forget(event.worker, now), now, blame=False)
            return
        if not event.init_failed:
            self._lose(event.worker, now, blame=True, trouble=event.message)
            return
        self._last_trouble = event.message
        self._pool.forget(event.worker, now)
        self._pool.back_off_after_init(now)
        if self._pool.init_failures >= MAX_INIT_FAILURES and not self._pool.ever_up:
            line = f"workers fail to start, {self._pool.init_failures} in a row: {event.message}"
            self._end(event.exit_code, line, now, at_once=True)

    def _leaving(self, event: WorkerLeaving) -> list[Command]:
        view = self._pool.views.get(event.worker)
        if view is None or view.phase is not Phase.UP:
            return []
        view.phase = Phase.DRAINING
        return [Drain(event.worker)]

    def _release(self, worker: str, shard_id: int, now: float) -> tuple[WorkerView | None, float]:
        """Take a lease from a worker; (None, _) when it is not ours to listen to any more."""
        view = self._pool.views.get(worker)
        if view is None:
            return None, now
        lease_began = view.leased_at
        view.drop(shard_id, now)
        return view, lease_began

    def _lose(self, worker: str, now: float, blame: bool, trouble: str) -> None:
        """A worker died: its leases wait again, a replacement follows after a pause."""
        view = self._pool.forget(worker, now)
        self._take_back(view, now, blame)
        self._last_trouble = trouble
        self._pool.back_off_after_death(now)

    def _take_back(self, view: WorkerView, now: float, blame: bool) -> None:
        for lease in view.leases.values():
            if blame:
                self._queue.put_back_dead(lease)
            else:
                self._queue.put_back(lease.shard.shard_id)
        if view.leases:
            self.tally.lost_s += now - view.leased_at
        if view.leases or view.phase is not Phase.DRAINING:  # else it left in order
            self.tally.workers_lost += 1

    # -- decisions --------------------------------------------------------------------

    def _end(self, exit_code: int, reason: str, now: float, at_once: bool = False) -> list[Command]:
        """Begin the end: drain who works, then finish."""
        if self._ending is not None:
            return []
        self._ending = Finish(exit_code, reason)
        self._deadline = now if at_once else now + DRAIN_S
        up = [view for view in self._pool.views.values() if view.phase is Phase.UP]
        for view in up:
            view.phase = Phase.DRAINING
        return [Drain(view.name) for view in up]

    def _decide(self, now: float) -> list[Command]:
        if not self._queue.num_open:
            return self._finish(Finish(DONE, ""))
        commands: list[Command] = []
        if self._ending is None:
            commands += self._check_limits(now)
        if self._ending is not None:
            busy = any(view.leases for view in self._pool.views.values())
            over = not busy or now >= self._deadline
            return commands + (self._finish(self._ending) if over else [])
        starts = self._pool.start(self._queue.num_unleased, now)
        commands += [StartWorker(name) for name in starts]
        return commands + self._assign(self._pool.views.values(), now)

    def _finish(self, finish: Finish) -> list[Command]:
        self._over = True
        return [finish]

    def _check_limits(self, now: float) -> list[Command]:
        limit, failed = self._terms.stop_after, self.tally.failed
        if limit is not None and failed >= max(limit, 1):
            return self._end(ROWS_FAILED, f"{failed} pictures failed, the limit is {limit}", now)
        deaths = self._pool.barren_deaths
        if deaths >= MAX_BARREN_DEATHS:
            line = f"{deaths} workers died in a row and no picture was finished: "
            return self._end(ENGINE, line + (self._last_trouble or "no reason given"), now)
        return []

    def _assign(self, views: Iterable[WorkerView], now: float) -> list[Command]:
        """Work for the idle first; then second leases, as far as they starve nobody."""
        commands: list[Command] = []
        up = [view for view in views if view.phase is Phase.UP]
        workers = self._pool.count(Phase.STARTING) + self._pool.count(Phase.UP)
        for rank in range(MAX_LEASES):
            for view in up:
                if len(view.leases) != rank or not self._queue.num_waiting:
                    continue
                if rank and not self._may_hold_two(view, workers):
                    continue
                lease = self._queue.take(idle=not rank)
                if lease is not None:
                    view.take(lease, now)
                    commands.append(Assign(view.name, lease))
        return commands

    def _may_hold_two(self, view: WorkerView, workers: int) -> bool:
        """Whether a second lease keeps lanes full without leaving another worker idle.

        With plenty waiting, always. Near the end a lease that lies unopened on one worker
        is missed by the next idle one, so a worker gets it only when its first shard has
        no picture left to begin. Shards shorter than a few pulses end before a pulse can
        say so; then it is enough that every other worker could still be given one.
        """
        if any(lease.care for lease in view.leases.values()):
            return False
        waiting = self._queue.num_waiting
        if waiting > 2 * workers or view.runs_dry():
            return True
        short = self._shard_seconds is not None and self._shard_seconds < 4 * self._terms.pulse_s
        return short and waiting >= workers

"""Who draws which shard: every decision of a run, and none of its effects.

Events come in, commands go out. There is no Ray here, no clock, no file and no log:
time arrives with each call, chance through the generator given. So the hard cases (a
worker dies while it commits, a row kills every process that touches it, a signal in
mid-run) are ordinary unit tests. An engine performs the commands and reports events.

`shard_queue.py` keeps the shards, `worker_pool.py` the workers, `outage.py` what is known
of the store; `leasing.py` brings them together. Here events are told to them, and it is
decided when the run ends.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from sdbatch.engine.events import (
    Abandon,
    Command,
    Drain,
    Finish,
    FirstPictures,
    Kill,
    Lease,
    LeaseReturned,
    Progress,
    Pulse,
    ShardDone,
    ShardFailed,
    StartWorker,
    StopRequested,
    StoreTrouble,
    WorkerDied,
    WorkerReady,
)
from sdbatch.engine.leasing import Leasing
from sdbatch.engine.outage import Outage
from sdbatch.engine.run_limits import (
    DONE,
    ENGINE,
    STOPPED,
    STORAGE,
    out_of_budget,
    out_of_patience,
    out_of_time,
    out_of_workers,
)
from sdbatch.engine.run_terms import (
    EngineEvent,
    RoomChanged,
    RunTerms,
    Tally,
    WorkerLeaving,
    WorkerRefused,
)
from sdbatch.engine.shard_queue import ShardQueue
from sdbatch.engine.worker_pool import Phase, WorkerPool, WorkerView
from sdbatch.errors import LocalDiskError
from sdbatch.records import Shard

DISK_FULL = LocalDiskError.__name__


class EngineState:
    """The state of one run. Not thread-safe; one loop owns it.

    Args:
        shards: Open shards in the order in which they should be leased.
        rng: Source of the jitter in back-offs.
        now: Seconds on the clock that all later calls use.
        revisions: Of the records to be created, by shard; 0 for those not named.
    """

    def __init__(
        self,
        shards: Iterable[Shard],
        terms: RunTerms,
        rng: random.Random,
        now: float,
        revisions: Mapping[int, int] | None = None,
    ) -> None:
        self._terms = terms
        self._queue = ShardQueue(shards, terms.retries, revisions)
        self._most_useful = max(1, self._queue.num_open)
        least = terms.limits.min_workers
        self._pool = WorkerPool(self._wanted(terms.workers), least, terms.wait_s, rng, now)
        self._outage = Outage(terms.limits.outage_s, rng, now)
        self._leasing = Leasing(self._queue, self._pool, self._outage, terms)
        self._ending: Finish | None = None
        self._deadline = float("inf")
        self._over = False
        self._last_trouble = ""
        self.tally = Tally()

    # -- in: events and time; out: commands -------------------------------------------

    def handle(self, event: EngineEvent, now: float) -> list[Command]:
        """Take one event into account and say what to do next."""
        if self._over:
            return []
        commands: list[Command] = []
        match event:
            case Pulse():
                return self._pulse(event, now)  # the most frequent event touches one worker
            case FirstPictures():
                return []  # the canary reads them, and may ask for a stop
            case WorkerReady():
                commands = self._ready(event, now)
            case ShardDone():
                commands = self._done(event, now)
            case ShardFailed():
                commands = self._failed(event, now)
            case StoreTrouble():
                commands = self._troubled(event, now)
            case LeaseReturned():
                self._returned(event, now)
            case WorkerDied():
                self._died(event, now)
            case WorkerRefused():
                self._end(event.error.exit_code, str(event.error), now, at_once=True)
            case WorkerLeaving():
                commands = self._leaving(event)
            case RoomChanged():
                self._pool.wanted = self._wanted(event.workers)
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
        self._look(now)
        over = out_of_time(self._terms, now) or out_of_budget(
            self._terms, self.tally, self.worker_seconds(now)[0]
        )
        few = out_of_workers(self._terms, self._pool, self._last_trouble, now)
        if over is not None:
            commands += self._end(over.exit_code, over.reason, now)
        elif few is not None:
            nobody = not self._pool.num_up
            commands += self._end(few.exit_code, few.reason, now, at_once=nobody)
        commands += self._decide(now)
        if self._ending is None and not self._over:
            commands += self._leasing.speculate(now) + self._release_unneeded(now)
        return commands

    # -- for people -------------------------------------------------------------------

    def progress(self, now: float) -> Progress:
        """Where the run stands."""
        terms, tally, pool = self._terms, self.tally, self._pool
        all_s, gpu_s = self.worker_seconds(now)
        return Progress(
            images=terms.images,
            done=terms.images_done + tally.success + tally.failed + tally.filtered,
            finished=self._queue.num_finished_images,
            failed=terms.failed_done + tally.failed,
            shards=terms.shards,
            shards_done=terms.shards_done + tally.shards,
            workers_up=pool.num_up,
            workers_wanted=pool.wanted,
            in_flight=sum(view.in_flight for view in pool.views.values()),
            workers_starting=pool.count(Phase.STARTING),
            worker_hours=round(all_s / 3600, 4),
            gpu_hours=round(gpu_s / 3600, 4),
            paused=f"the store fails: {self._outage.message}" if self._outage.message else "",
        )

    def worker_seconds(self, now: float) -> tuple[float, float]:
        """Seconds that workers were up or loading, and those of them on a GPU."""
        spent = self._pool.worker_seconds(now)
        return sum(spent.values()), sum(s for device, s in spent.items() if device != "cpu")

    def waiting_line(self, now: float) -> str | None:
        """A line every 30 s while workers are missing or the store fails; else None."""
        if self._over or self._ending is not None:
            return None
        self._look(now)
        return self._outage.line(now) or self._pool.waiting_line(self._terms.waits_for, now)

    # -- events -----------------------------------------------------------------------

    def _ready(self, event: WorkerReady, now: float) -> list[Command]:
        if event.worker not in self._pool.views:
            return []
        self._pool.came_up(event, now)
        phases = self.tally.phase_seconds
        phases["load"] = phases.get("load", 0.0) + event.load_seconds
        self.tally.most_workers = max(self.tally.most_workers, self._pool.num_up)
        if self._ending is not None:
            self._pool.views[event.worker].phase = Phase.DRAINING
            return [Drain(event.worker, max(self._deadline - now, 0.0))]
        return []

    def _pulse(self, event: Pulse, now: float) -> list[Command]:
        view = self._pool.views.get(event.worker)
        if view is None:
            return []
        self._leasing.heard(view, event, now)
        stored = self._pool.heard(view, event, now)
        for shard_id in view.leases:
            if shard_id in event.finished:
                self._queue.note_finished(shard_id, event.finished[shard_id])
        if stored and (commands := self._store_works(now, commit=False)):
            return commands + self._decide(now)
        return [] if self._ending is not None else self._leasing.assign([view], now)

    def _done(self, event: ShardDone, now: float) -> list[Command]:
        view = self._pool.views.get(event.worker)
        if view is not None:
            lease_began = view.leased_at
            self._pool.credit(view, event.shard_id, now)
            if view.drop(event.shard_id, now) is not None:
                self._leasing.shard_took(now - lease_began)
            self._pool.barren_deaths = 0
            self._pool.disks_full = 0
        commands = self._store_works(now)
        if self._queue.close(event.shard_id) is None:
            return commands  # closed by another attempt: count it once
        self.tally.add(event)
        for other in self._pool.views.values():
            if other.drop(event.shard_id, now) is not None:
                commands.append(Abandon(other.name, event.shard_id))
        return commands

    def _failed(self, event: ShardFailed, now: float) -> list[Command]:
        view = self._pool.views.get(event.worker)
        if view is None:
            return []
        began = view.leased_at
        lease = view.drop(event.shard_id, now)
        self._last_trouble = event.message
        commands: list[Command] = []
        if lease is not None:
            self.tally.lost_s += now - began
            commands = self._failed_lease(event, lease, now)
        elif event.shard_id < 0 and not event.retryable:
            commands = self._end(event.exit_code or ENGINE, event.message, now)
        if event.worker_unfit:
            commands.append(Kill(event.worker, event.message))
            self._take_back(self._pool.forget(event.worker, now), now, blame=False)
            if event.error_type != DISK_FULL:  # those are counted by themselves
                self._pool.back_off_after_death(now)
        return commands

    def _failed_lease(self, event: ShardFailed, lease: Lease, now: float) -> list[Command]:
        """Whose fault was it: the shard's, one disk's or the store's?"""
        shard_id = event.shard_id
        if event.error_type == DISK_FULL:
            self._outage.gone(event.worker, shard_id, now)
            self._leasing.put_back(shard_id)  # for a worker on another disk, if there is one
            self._pool.disks_full += 1
            others = self._pool.count(Phase.UP) - 1
            again = others > 0 and self._pool.disks_full < 2 * self.tally.most_workers
        elif event.retryable and event.exit_code == STORAGE:
            self._outage.failed(event.worker, shard_id, event.message, now)
            self._leasing.put_back(shard_id)
            again = self._queue.bear(shard_id)
            if self._outage.hopeless(now):
                return self._end(STORAGE, self._outage.reason(now), now)
        elif lease.reverse and event.retryable:
            self._leasing.put_back(shard_id)  # a helper's failure leaves the shard as it was
            again = True
        else:
            self._outage.gone(event.worker, shard_id, now)
            self._leasing.put_back(shard_id)
            again = self._queue.blame(shard_id, now) and event.retryable
        if again:
            return []
        where = "" if event.error_type == DISK_FULL else f"shard {shard_id:05d}: "
        return self._end(event.exit_code or ENGINE, f"{where}{event.message}", now)

    def _returned(self, event: LeaseReturned, now: float) -> None:
        view = self._pool.views.get(event.worker)
        if view is not None and view.drop(event.shard_id, now) is not None:
            self._leasing.put_back(event.shard_id)
            self._outage.gone(event.worker, event.shard_id, now)

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
        if self._pool.failing_to_start and not self._pool.count(Phase.STARTING):
            line = f"workers fail to start, {self._pool.init_failures} in a row: {event.message}"
            self._end(event.exit_code, line, now, at_once=True)

    def _leaving(self, event: WorkerLeaving) -> list[Command]:
        view = self._pool.views.get(event.worker)
        if view is None or view.phase is not Phase.UP:
            return []
        view.phase = Phase.DRAINING
        return [Drain(event.worker)]

    def _troubled(self, event: StoreTrouble, now: float) -> list[Command]:
        self._outage.trouble(event, now)
        if self._outage.hopeless(now):
            return self._end(STORAGE, self._outage.reason(now), now)
        return []

    def _store_works(self, now: float, commit: bool = True) -> list[Command]:
        """A commit or a part stands: an outage is over, and perhaps was one shard's fault."""
        shard_id = self._outage.worked(now, commit)
        if shard_id is None or self._queue.blame(shard_id, now):
            return []
        return self._end(STORAGE, f"shard {shard_id:05d}: {self._outage.last_message}", now)

    def _lose(self, worker: str, now: float, blame: bool, trouble: str) -> None:
        """A worker died: its leases wait again, a replacement follows after a pause."""
        view = self._pool.forget(worker, now)
        self._take_back(view, now, blame)
        self._last_trouble = trouble
        self._pool.back_off_after_death(now)

    def _take_back(self, view: WorkerView, now: float, blame: bool) -> None:
        for shard_id, lease in view.leases.items():
            self._outage.gone(view.name, shard_id, now)
            if blame:
                self._queue.accuse(lease)
            self._leasing.put_back(shard_id)
        if view.leases:
            self.tally.lost_s += now - view.leased_at
        if view.leases or view.phase is not Phase.DRAINING:  # else it left in order
            self.tally.workers_lost += 1

    # -- decisions --------------------------------------------------------------------

    def _wanted(self, room: int) -> int:
        """Workers to have: as many as there is room for, no fewer than asked, none in vain."""
        return max(1, min(max(room, self._terms.limits.min_workers), self._most_useful))

    def _look(self, now: float) -> None:
        self._pool.look(self._queue.num_unleased, self._queue.num_open, now)

    def _end(self, exit_code: int, reason: str, now: float, at_once: bool = False) -> list[Command]:
        """Begin the end: drain who works, then finish."""
        if self._ending is not None:
            return []
        self._ending = Finish(exit_code, reason)
        self._deadline = now if at_once else now + self._terms.limits.drain_s
        up = [view for view in self._pool.views.values() if view.phase is Phase.UP]
        for view in up:
            view.phase = Phase.DRAINING
        return [Drain(view.name, self._deadline - now) for view in up]

    def _decide(self, now: float) -> list[Command]:
        if not self._queue.num_open:
            return self._finish(Finish(DONE, ""))
        commands: list[Command] = []
        over = out_of_patience(self._terms, self.tally, self._pool, self._last_trouble)
        if over is not None:
            commands += self._end(over.exit_code, over.reason, now)
        if self._ending is not None:
            busy = any(view.leases for view in self._pool.views.values())
            if busy and now < self._deadline:
                return commands
            return commands + self._finish(self._ending)
        starts = self._pool.start(self._queue.num_unleased, now)
        commands += [StartWorker(name) for name in starts]
        return commands + self._leasing.assign(self._pool.views.values(), now)

    def _finish(self, finish: Finish) -> list[Command]:
        self._over = True
        return [finish]

    def _release_unneeded(self, now: float) -> list[Command]:
        """Give GPUs back at the tail."""
        commands: list[Command] = []
        for view in self._pool.unneeded(self._queue.num_unleased, self._queue.num_open, now):
            if view.phase is Phase.STARTING:
                self._pool.forget(view.name, now)
                commands.append(Kill(view.name, ""))
            else:
                view.phase = Phase.DRAINING
                commands.append(Drain(view.name))
        return commands

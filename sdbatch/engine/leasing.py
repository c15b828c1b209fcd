"""Who is given which lease: work for the idle, a second shard ahead, help for the slowest.

Pure, between `shard_queue.py` and `worker_pool.py`; `state.py` asks it after each event.
When nothing waits, an idle worker joins the one that has longest to go: it draws the same
shard from the other end, both exchange parts, and the first commit wins. Work that turns
up meanwhile comes first: such a helper is called away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from statistics import median

from sdbatch.engine.events import Abandon, Assign, Command, Lease, Pulse, Share
from sdbatch.engine.outage import Outage
from sdbatch.engine.run_terms import RunTerms
from sdbatch.engine.shard_queue import ShardQueue
from sdbatch.engine.speed import seconds_left
from sdbatch.engine.worker_pool import Phase, WorkerPool, WorkerView

MAX_LEASES = 2
STARTS_REMEMBERED = 31
WORTH_STARTS = 2.0  # a helper halves the rest at best, after a start of its own
MEET_S = 5.0  # two workers on one shard learn of each other's pictures about as late


class Leasing:
    """Gives leases and takes helpers away; keeps what it must have measured for that."""

    def __init__(
        self, queue: ShardQueue, pool: WorkerPool, outage: Outage, terms: RunTerms
    ) -> None:
        self._queue, self._pool, self._outage, self._terms = queue, pool, outage, terms
        self._shard_seconds: float | None = None
        self._start_seconds: deque[float] = deque(maxlen=STARTS_REMEMBERED)

    # -- measured ------------------------------------------------------------------------

    def shard_took(self, seconds: float) -> None:
        """A shard was committed that long after it was begun."""
        self._shard_seconds = seconds

    def heard(self, view: WorkerView, pulse: Pulse, now: float) -> None:
        """Before a pulse is taken in: how long a lease takes until its first picture."""
        if len(view.leases) != 1:
            return
        (shard_id,) = view.leases
        if pulse.finished.get(shard_id, 0) and not view.finished.get(shard_id, 0):
            self._start_seconds.append(now - view.leased_at)

    # -- ordinary leases -----------------------------------------------------------------

    def assign(self, views: Iterable[WorkerView], now: float) -> list[Command]:
        """Work for the idle first; then second leases, as far as they starve nobody."""
        if not self._queue.num_waiting:
            return []
        up = [view for view in views if view.phase is Phase.UP]
        if self._outage.on:
            return self._probe(up, now)
        commands: list[Command] = []
        for view in sorted((one for one in up if one.spare), key=lambda one: len(one.leases)):
            commands += self._give_first(view, now)
        workers = self._pool.count(Phase.STARTING) + self._pool.count(Phase.UP)
        for view in up:
            if len(view.leases) == 1 and self._may_hold_two(view, workers):
                lease = self._queue.take(idle=False)
                if lease is not None:
                    commands.append(_give(view, lease, now))
        return commands

    def _give_first(self, view: WorkerView, now: float, probe: bool = False) -> list[Command]:
        """A lease for a worker that has no work of its own; what it helped with is let go."""
        lease = self._queue.take(idle=True, probe=probe)
        if lease is None:
            return []
        commands: list[Command] = []
        for shard_id in list(view.leases):
            commands += self.let_go(view, shard_id, now)
        return [*commands, _give(view, lease, now)]

    def put_back(self, shard_id: int) -> None:
        """A lease ended without a commit; if a helper is left with the shard, it owns it now."""
        if not self._queue.put_back(shard_id):
            return
        for view in self._pool.views.values():
            if shard_id in view.leases:
                view.leases[shard_id] = replace(view.leases[shard_id], reverse=False)

    def let_go(self, view: WorkerView, shard_id: int, now: float) -> list[Command]:
        """Have a worker drop a lease at once."""
        if view.drop(shard_id, now) is None:
            return []
        self.put_back(shard_id)
        return [Abandon(view.name, shard_id)]

    def _probe(self, up: list[WorkerView], now: float) -> list[Command]:
        """While the store fails, one lease at a time finds out whether it still does."""
        spare = next((view for view in up if view.spare), None)
        if spare is None or not self._outage.may_probe(now):
            return []
        commands = self._give_first(spare, now, probe=True)
        if commands:
            self._outage.probing(spare.name, next(iter(spare.leases)))
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
        if not waiting or waiting > 2 * workers or view.runs_dry():
            return waiting > 0
        short = self._shard_seconds is not None and self._shard_seconds < 4 * self._terms.pulse_s
        return short and waiting >= workers

    # -- speculation ---------------------------------------------------------------------

    def speculate(self, now: float) -> list[Command]:
        """When nothing waits: idle workers join those that have longest to go."""
        if not self._terms.limits.speculate or self._queue.num_unleased or self._outage.on:
            return []
        idle = [view for view in self._pool.views.values() if view.idle]
        if not idle:
            return []
        commands: list[Command] = []
        slowest = sorted(self._rests(now), key=lambda each: each[0], reverse=True)
        for (_, holder, shard_id), helper in zip(slowest, idle, strict=False):
            commands.append(_give(helper, self._queue.share(shard_id), now))
            commands.append(Share(holder.name, shard_id))
        return commands

    def _rests(self, now: float) -> Iterator[tuple[float, WorkerView, int]]:
        """(seconds left, who draws it, shard) of all shards that are worth a helper."""
        # Without a first picture heard of, the time of a whole shard bounds it from above.
        start_s = median(self._start_seconds) if self._start_seconds else self._shard_seconds
        usual = self._pool.typical_rate()
        if start_s is None or usual is None:
            return
        young_s = WORTH_STARTS * max(start_s, self._terms.pulse_s)
        for view in self._pool.views.values():
            silent_s = now - view.signs.heard_at
            if not view.leases or now - view.leased_at < young_s:
                continue  # its own start is not over
            rate = view.meter.rate(silent_s)
            work = 0.0
            for shard_id, lease in view.leases.items():
                work += self._queue.cost_left(shard_id)
                rest_s = seconds_left(work, usual if rate is None else rate)
                fit = not lease.care and not lease.reverse and self._queue.may_share(shard_id)
                if fit and rest_s > young_s + MEET_S:
                    yield rest_s, view, shard_id


def _give(view: WorkerView, lease: Lease, now: float) -> Assign:
    view.take(lease, now)
    return Assign(view.name, lease)

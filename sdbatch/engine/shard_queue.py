"""Which shards are open, in what order they are leased and how carefully.

Pure bookkeeping below `state.py`: no worker, clock, file or Ray is known here, time
arrives as an argument. Shards keep the order in which the plan wants them leased
(costliest first), also after they come back.

After a death the ladder of care climbs: parts more often, then one picture at a time.
Only a picture that was alone in flight at two deaths is given up, because before that
a neighbour, or the machine, may have been the cause.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sdbatch.engine.events import CARE_ALONE, CARE_NORMAL, CARE_PARTS, Lease
from sdbatch.records import Shard

ALONE_DEATHS = 2
RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0
MAX_STORE_FAILURES = 30  # more than an outage can bring before it ends the run
MAX_SPECULATIONS = 3


@dataclass(slots=True)
class ShardView:
    """What the driver knows of a shard that has no commit record yet.

    Attributes:
        rank: Place in the order of leasing.
        revision: Of the commit record to be created.
        leases: Leases given in this run.
        held: Leases of it that are out; at most two, the second one speculative.
        speculations: Speculative leases given in this run.
        failures: Attempts that ended with an error of its own.
        store_failures: Attempts that ended because the store failed.
        deaths: Workers that died while they held it, those lost with their node excepted.
        alone_deaths: Deaths in a row at the same picture, alone in flight.
        finished: Pictures finished, as last heard.
        stuck_at: `finished` at the last death alone in flight; -1 before.
    """

    shard: Shard
    rank: int
    revision: int = 0
    leases: int = 0
    held: int = 0
    speculations: int = 0
    failures: int = 0
    store_failures: int = 0
    deaths: int = 0
    alone_deaths: int = 0
    finished: int = 0
    stuck_at: int = -1

    @property
    def care(self) -> int:
        """The rung of the ladder that its deaths have earned."""
        return (CARE_NORMAL, CARE_PARTS, CARE_ALONE)[min(self.deaths, CARE_ALONE)]

    @property
    def cost_left(self) -> float:
        """Work that is left, in the plan's unit."""
        images = self.shard.num_images
        return self.shard.cost * (images - self.finished) / images if images else 0.0

    def lease(self) -> Lease:
        """Count one more attempt and say how it is to be made."""
        self.leases += 1
        self.held += 1
        give_up = self.alone_deaths >= ALONE_DEATHS
        return Lease(self.shard, self.leases, self.care, give_up, self.revision)


class ShardQueue:
    """The open shards of a run: waiting, resting after an error, or leased.

    Attributes:
        num_finished_images: Pictures finished in open shards, as last heard.
    """

    def __init__(
        self, shards: Iterable[Shard], retries: int, revisions: Mapping[int, int] | None = None
    ) -> None:
        self._retries = retries
        self._open = {
            shard.shard_id: ShardView(shard, rank, (revisions or {}).get(shard.shard_id, 0))
            for rank, shard in enumerate(shards)
        }
        self._waiting = set(self._open)
        self._order = [(entry.rank, shard_id) for shard_id, entry in self._open.items()]
        self._resting: dict[int, float] = {}
        self.num_finished_images = 0

    @property
    def num_open(self) -> int:
        """Shards without a commit record."""
        return len(self._open)

    @property
    def num_waiting(self) -> int:
        """Shards that could be leased now."""
        return len(self._waiting)

    @property
    def num_unleased(self) -> int:
        """Shards nobody holds: waiting, or resting after an error."""
        return len(self._waiting) + len(self._resting)

    def take(self, idle: bool, probe: bool = False) -> Lease | None:
        """Lease the first waiting shard, or none.

        Args:
            idle: The worker holds nothing else. A shard under suspicion goes to idle
                workers only: the next death then accuses one shard.
            probe: Ask for parts after every few pictures, to hear soon of the store.
        """
        while self._order:
            _, shard_id = self._order[0]
            if shard_id in self._waiting:
                break
            heapq.heappop(self._order)
        if not self._waiting:
            return None
        entry = self._open[self._order[0][1]]
        if entry.care != CARE_NORMAL and not idle:
            return None
        heapq.heappop(self._order)
        self._waiting.discard(entry.shard.shard_id)
        lease = entry.lease()
        return replace(lease, care=max(lease.care, CARE_PARTS)) if probe else lease

    def may_share(self, shard_id: int) -> bool:
        """Whether a second worker may join the one that draws this shard."""
        entry = self._open.get(shard_id)
        return (
            entry is not None
            and entry.held == 1
            and entry.care == CARE_NORMAL
            and entry.speculations < MAX_SPECULATIONS
        )

    def share(self, shard_id: int) -> Lease:
        """A second, speculative lease on a shard for which `may_share` is true."""
        entry = self._open[shard_id]
        entry.speculations += 1
        return replace(entry.lease(), reverse=True)

    def cost_left(self, shard_id: int) -> float:
        """Work left in an open shard, in the plan's unit; 0 for others."""
        entry = self._open.get(shard_id)
        return entry.cost_left if entry else 0.0

    def close(self, shard_id: int) -> Shard | None:
        """Take a committed shard out; None when it was closed before."""
        entry = self._open.pop(shard_id, None)
        self._waiting.discard(shard_id)
        self._resting.pop(shard_id, None)
        if entry is None:
            return None
        self.num_finished_images -= entry.finished
        return entry.shard

    def put_back(self, shard_id: int) -> bool:
        """A lease ended without a commit: the shard waits, if nobody else draws it.

        Returns:
            Whether somebody does.
        """
        entry = self._open.get(shard_id)
        if entry is None:
            return False
        entry.held = max(entry.held - 1, 0)
        if not entry.held:
            self._wait(entry)
        return entry.held > 0

    def bear(self, shard_id: int) -> bool:
        """The store failed during an attempt: whose fault it was is seen later.

        Returns:
            False when that has happened too often.
        """
        entry = self._open.get(shard_id)
        if entry is not None:
            entry.store_failures += 1
        return entry is None or entry.store_failures <= MAX_STORE_FAILURES

    def blame(self, shard_id: int, now: float) -> bool:
        """Count an error against a shard and, if it waits, let it rest a while.

        Returns:
            False when its attempts have run out; it then rests for ever.
        """
        entry = self._open.get(shard_id)
        if entry is None:
            return True
        entry.failures += 1
        again = entry.failures <= self._retries
        if shard_id in self._waiting:
            self._waiting.discard(shard_id)
            pause_s = min(RETRY_FIRST_S * 2.0 ** (entry.failures - 1), RETRY_MAX_S)
            self._resting[shard_id] = now + pause_s if again else float("inf")
        return again

    def accuse(self, lease: Lease) -> None:
        """The worker that held `lease` died, and its node did not: climb the ladder."""
        entry = self._open.get(lease.shard.shard_id)
        if entry is None:
            return
        entry.deaths += 1
        if lease.care == CARE_ALONE:
            same_picture = entry.finished <= entry.stuck_at and not lease.give_up_first
            entry.alone_deaths = entry.alone_deaths + 1 if same_picture else 1
            entry.stuck_at = entry.finished

    def wake(self, now: float) -> None:
        """Shards that have rested long enough wait again."""
        for shard_id in [one for one, until in self._resting.items() if until <= now]:
            self._wait(self._open[shard_id])

    def note_finished(self, shard_id: int, finished: int) -> None:
        """A pulse says how many pictures of a shard are finished; of two, the better counts."""
        entry = self._open.get(shard_id)
        if entry is not None:
            finished = min(finished, entry.shard.num_images)
            if entry.held > 1:
                finished = max(finished, entry.finished)
            self.num_finished_images += finished - entry.finished
            entry.finished = finished

    def _wait(self, entry: ShardView) -> None:
        shard_id = entry.shard.shard_id
        self._resting.pop(shard_id, None)
        if shard_id not in self._waiting:
            self._waiting.add(shard_id)
            heapq.heappush(self._order, (entry.rank, shard_id))

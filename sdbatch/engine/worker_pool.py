"""Which workers there are, when the next one is started and which are needed no longer.

Pure bookkeeping below `state.py`: it knows workers and the time it is told, no shards'
contents, no Ray. Back-off is one for the whole pool: what breaks one start (a driver, a
full disk, a missing file) breaks the next one as well, and a cluster is not hammered.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sdbatch.engine.events import Lease, Pulse, WorkerReady
from sdbatch.engine.speed import Meter, typical
from sdbatch.engine.watchdog import Signs, Watchdog, duration

MAX_PENDING = 64
MAX_INIT_FAILURES = 3
FIRST_RETRY_S, BACK_OFF_S, BACK_OFF_MAX_S = 1.0, 5.0, 300.0
WAITING_LINE_EVERY_S = 30.0
IDLE_S = 60.0


class Phase(Enum):
    """Where a worker is in its life; the dead are forgotten."""

    STARTING = "starting"
    UP = "up"
    DRAINING = "draining"


@dataclass(slots=True)
class WorkerView:
    """What the driver knows of one living worker.

    Attributes:
        leases: By shard, oldest first; at most two.
        leased_at: When its oldest lease became the oldest.
        given_at: When it came up, or was last given or relieved of a lease.
        finished: Pictures finished per shard, from its last pulse.
        recent: Pictures finished between its last two pulses.
        saved: Parts it has stored.
        meter: How fast it draws.
        up_since: When it began to load; None before it is ready.
        device: `cuda`, `cpu`, ...; empty before it is ready.
    """

    name: str
    phase: Phase = Phase.STARTING
    leases: dict[int, Lease] = field(default_factory=dict)
    leased_at: float = 0.0
    given_at: float = 0.0
    finished: Mapping[int, int] = field(default_factory=dict)
    recent: int = 0
    in_flight: int = 0
    saved: int = 0
    signs: Signs = field(default_factory=Signs)
    meter: Meter = field(default_factory=Meter)
    up_since: float | None = None
    device: str = ""

    @property
    def idle(self) -> bool:
        """Ready and without work."""
        return self.phase is Phase.UP and not self.leases

    @property
    def spare(self) -> bool:
        """Ready and without work of its own: idle, or joined to another's shard."""
        return self.phase is Phase.UP and all(lease.reverse for lease in self.leases.values())

    def take(self, lease: Lease, now: float) -> None:
        """Hold one more lease."""
        if not self.leases:
            self.leased_at = now
            self.signs.fresh(now)
        self.given_at = now
        self.leases[lease.shard.shard_id] = lease
        self.signs.moved_at[lease.shard.shard_id] = now

    def drop(self, shard_id: int, now: float) -> Lease | None:
        """Hold a lease no longer; None when it is not held."""
        lease = self.leases.pop(shard_id, None)
        self.signs.moved_at.pop(shard_id, None)
        if lease is not None:
            self.leased_at = self.given_at = now
            self.signs.fresh(now)
            if self.leases:  # the next one is only begun now
                self.signs.moved_at[next(iter(self.leases))] = now
        if not self.leases:
            self.in_flight = 0
        return lease

    def runs_dry(self) -> bool:
        """Whether its only shard has, by the next pulses, no picture left to begin."""
        (lease,) = self.leases.values()
        finished = self.finished.get(lease.shard.shard_id)
        if finished is None:
            return False
        to_begin = lease.shard.num_images - finished - self.in_flight
        return to_begin <= 2 * self.recent


class WorkerPool:
    """The workers of a run, and the rules by which they come and go.

    Attributes:
        wanted: Workers to have at most.
        min_workers: With fewer for `wait_s` the run ends.
        ever_up: Some worker was ready once.
        init_failures: Starts that failed since the last one that did not.
        barren_deaths: Deaths since the last finished picture.
        disks_full: Workers whose disk was full, since the last commit.
    """

    def __init__(
        self, wanted: int, min_workers: int, wait_s: float, rng: random.Random, now: float
    ) -> None:
        self.wanted, self.min_workers = wanted, min_workers
        self.views: dict[str, WorkerView] = {}
        self.ever_up = False
        self.init_failures = 0
        self.barren_deaths = 0
        self.disks_full = 0
        self._wait_s, self._rng = wait_s, rng
        self._number = 0
        self._not_before = now
        self._short_since: float | None = now
        self._next_line_at = now + WAITING_LINE_EVERY_S
        self._watchdog = Watchdog()
        self._needed_at = now
        self._gone_s: dict[str, float] = {}

    # -- who there is ------------------------------------------------------------------

    def count(self, phase: Phase) -> int:
        """Workers in that phase."""
        return sum(view.phase is phase for view in self.views.values())

    @property
    def num_up(self) -> int:
        """Workers that hold a loaded model."""
        return len(self.views) - self.count(Phase.STARTING)

    def typical_rate(self) -> float | None:
        """The median speed of all workers; None before any was measured."""
        return typical(view.meter.rate() for view in self.views.values())

    def worker_seconds(self, now: float) -> dict[str, float]:
        """Seconds that workers have been up or loading so far, by device."""
        spent = dict(self._gone_s)
        for view in self.views.values():
            if view.up_since is not None:
                spent[view.device] = spent.get(view.device, 0.0) + now - view.up_since
        return spent

    # -- coming ------------------------------------------------------------------------

    def start(self, unleased: int, now: float) -> list[str]:
        """Names of workers to start now: never more than there is work for.

        While starts fail, one at a time is tried; when they never did anything else, none.
        """
        if now < self._not_before or self.failing_to_start:
            return []
        starting = self.count(Phase.STARTING)
        living = starting + self.count(Phase.UP)
        spare = sum(view.spare for view in self.views.values())
        room = min(self.wanted - living, MAX_PENDING - starting, unleased - starting - spare)
        room = min(room, 1) if self.init_failures else room
        names = [f"w{self._number + index}" for index in range(room)]
        self._number += len(names)
        self.views |= {name: WorkerView(name, given_at=now) for name in names}
        return names

    @property
    def failing_to_start(self) -> bool:
        """Whether starts fail in a row, and not one has ever succeeded."""
        return self.init_failures >= MAX_INIT_FAILURES and not self.ever_up

    def came_up(self, event: WorkerReady, now: float) -> None:
        """A worker is ready."""
        view = self.views[event.worker]
        view.phase, view.given_at, view.device = Phase.UP, now, event.env.device
        view.up_since = now - event.load_seconds
        view.signs.fresh(now)
        self.ever_up, self.init_failures = True, 0

    def back_off_after_init(self, now: float) -> None:
        """A worker died or raised while starting."""
        self.init_failures += 1
        self._pause(BACK_OFF_S * 2.0 ** min(self.init_failures - 1, 10), now)

    def back_off_after_death(self, now: float) -> None:
        """A worker died at work; a device needs a moment before the next one takes it."""
        self.barren_deaths += 1
        self._pause(FIRST_RETRY_S * 2.0 ** min(self.barren_deaths - 1, 10), now)

    # -- going -------------------------------------------------------------------------

    def forget(self, name: str, now: float) -> WorkerView:
        """A worker is gone; what it held is in the view returned."""
        view = self.views.pop(name)
        if view.up_since is not None:
            spent = self._gone_s.get(view.device, 0.0)
            self._gone_s[view.device] = spent + now - view.up_since
        return view

    def unneeded(self, unleased: int, num_open: int, now: float) -> list[WorkerView]:
        """Workers that may go: idle, or not yet up, for a while in which nothing waited.

        As many stay as there are open shards, for each of these may come back.
        """
        if unleased:
            self._needed_at = now
        starting = [view for view in self.views.values() if view.phase is Phase.STARTING]
        if now - self._needed_at < IDLE_S:
            return []
        up = self.count(Phase.UP)
        idle = [view for view in self.views.values() if view.idle and now - view.given_at >= IDLE_S]
        return starting + idle[: max(up - num_open, 0)]

    # -- signs of life -----------------------------------------------------------------

    def heard(self, view: WorkerView, pulse: Pulse, now: float) -> bool:
        """A pulse arrived; it counts as progress when more pictures are finished.

        Returns:
            Whether the worker has stored a part since the pulse before.
        """
        growth = {
            shard_id: count - view.finished.get(shard_id, 0)
            for shard_id, count in pulse.finished.items()
        }
        # What stood in parts when a shard was opened is finished, and was not drawn here.
        work = sum(
            max(growth[shard_id], 0) * lease.shard.cost / max(lease.shard.num_images, 1)
            for shard_id, lease in view.leases.items()
            if shard_id in view.finished and shard_id in growth
        )
        if view.leases:
            view.meter.add(work, now - view.signs.heard_at)
        self._watchdog.heard(view.signs, growth, now)
        view.recent = sum(max(grown, 0) for grown in growth.values())
        if view.recent:
            self.barren_deaths = 0
        view.finished, view.in_flight = pulse.finished, pulse.in_flight
        stored, view.saved = pulse.saved > view.saved, pulse.saved
        return stored

    def credit(self, view: WorkerView, shard_id: int, now: float) -> None:
        """A shard was committed: what no pulse told of it counts as work too."""
        lease = view.leases.get(shard_id)
        if lease is not None:
            self._watchdog.committed(view.signs, now)
        if lease is None or not (shard_id in view.finished or lease.attempt == 1):
            return  # nobody knows how much of it stood in parts
        images = max(lease.shard.num_images, 1)
        left = max(images - view.finished.get(shard_id, 0), 0)
        view.meter.add(lease.shard.cost * left / images, now - view.signs.heard_at)

    def hung(self, now: float) -> list[tuple[str, str]]:
        """Workers with leases that are silent, or pulse without moving; with the reason."""
        busy = [view for view in self.views.values() if view.leases]
        return self._watchdog.hung(
            ((view.name, view.signs, next(iter(view.leases))) for view in busy), now
        )

    # -- too few -----------------------------------------------------------------------

    def look(self, unleased: int, num_open: int, now: float) -> None:
        """See whether too few workers are up for the work that nobody holds."""
        needed = max(1, min(self.min_workers, self.wanted, num_open))
        short = self.num_up < needed and unleased > 0
        if not short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since, self._next_line_at = now, now + WAITING_LINE_EVERY_S

    def overdue(self, now: float) -> bool:
        """Whether too few workers have been up for longer than the run may wait."""
        return self._short_since is not None and now - self._short_since >= self._wait_s

    def waiting_line(self, what: str, now: float) -> str | None:
        """The line that is due every 30 s while too few workers are up; None in between."""
        if self._short_since is None or now < self._next_line_at:
            return None
        self._next_line_at = now + WAITING_LINE_EVERY_S
        waited = duration(now - self._short_since)
        least = f", at least {self.min_workers} are asked for" if self.num_up else ""
        return f"waiting for {what}: {self.num_up} of {self.wanted} workers{least}, {waited}"

    def _pause(self, pause_s: float, now: float) -> None:
        jittered = min(pause_s, BACK_OFF_MAX_S) * self._rng.uniform(0.75, 1.0)
        self._not_before = max(self._not_before, now + jittered)

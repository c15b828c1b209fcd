"""Which workers there are, when the next one is started and which one is stuck.

Pure bookkeeping below `state.py`: it knows workers and the time it is told, no shards'
contents, no Ray. Back-off is one for the whole pool: what breaks one start (a driver, a
full disk, a missing file) breaks the next one as well, and a cluster is not hammered.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from statistics import median

from sdbatch.engine.events import Lease, Pulse

MAX_PENDING = 64
FIRST_RETRY_S, BACK_OFF_S, BACK_OFF_MAX_S = 1.0, 5.0, 300.0
SILENT_S, STALLED_S, PATIENCE = 300.0, 1800.0, 20.0
ENOUGH_SAMPLES = 5
WAITING_LINE_EVERY_S = 30.0


def duration(seconds: float) -> str:
    """A duration for people: `45s`, `6m10s`, `30m`, `2h05m`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    if not minutes:
        return f"{rest}s"
    return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"


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
        heard_at: Time of its last sign of life, or of the lease that made it busy.
        changed_at: When its finished pictures last grew in number, or its oldest lease changed.
        finished: Pictures finished per shard, from its last pulse.
        recent: Pictures finished between its last two pulses.
    """

    name: str
    phase: Phase = Phase.STARTING
    leases: dict[int, Lease] = field(default_factory=dict)
    leased_at: float = 0.0
    heard_at: float = 0.0
    changed_at: float = 0.0
    finished: Mapping[int, int] = field(default_factory=dict)
    recent: int = 0
    in_flight: int = 0

    @property
    def idle(self) -> bool:
        """Ready and without work."""
        return self.phase is Phase.UP and not self.leases

    def take(self, lease: Lease, now: float) -> None:
        """Hold one more lease."""
        if not self.leases:
            self.leased_at = self.heard_at = self.changed_at = now
        self.leases[lease.shard.shard_id] = lease

    def drop(self, shard_id: int, now: float) -> None:
        """Hold a lease no longer; nothing happens when it is not held."""
        if self.leases.pop(shard_id, None) is not None:
            self.leased_at = self.heard_at = self.changed_at = now
        if not self.leases:
            self.in_flight = 0

    def runs_dry(self) -> bool:
        """Whether its only shard has, by the next pulses, no picture left to begin."""
        (lease,) = self.leases.values()
        finished = self.finished.get(lease.shard.shard_id)
        if finished is None:
            return False
        to_begin = lease.shard.num_images - finished - self.in_flight
        return to_begin <= 2 * self.recent


class WorkerPool:
    """The workers of a run, and the rules by which they come and go."""

    def __init__(self, wanted: int, wait_s: float, rng: random.Random, now: float) -> None:
        self.wanted = wanted
        self.views: dict[str, WorkerView] = {}
        self.ever_up = False
        self.init_failures = 0
        self.barren_deaths = 0
        self._wait_s, self._rng = wait_s, rng
        self._number = 0
        self._not_before = now
        self._down_since: float | None = now
        self._next_line_at = now + WAITING_LINE_EVERY_S
        self._pulse_gaps: deque[float] = deque(maxlen=101)
        self._change_gaps: deque[float] = deque(maxlen=101)

    def count(self, phase: Phase) -> int:
        """Workers in that phase."""
        return sum(view.phase is phase for view in self.views.values())

    def start(self, unleased: int, now: float) -> list[str]:
        """Names of workers to start now: never more than there is work for."""
        if now < self._not_before:
            return []
        starting = self.count(Phase.STARTING)
        living = starting + self.count(Phase.UP)
        idle = sum(view.idle for view in self.views.values())
        room = min(self.wanted - living, MAX_PENDING - starting, unleased - starting - idle)
        names = [f"w{self._number + index}" for index in range(room)]
        self._number += len(names)
        self.views |= {name: WorkerView(name, heard_at=now) for name in names}
        return names

    def came_up(self, name: str, now: float) -> None:
        """A worker is ready."""
        view = self.views[name]
        view.phase, view.heard_at = Phase.UP, now
        self.ever_up, self.init_failures, self._down_since = True, 0, None

    def forget(self, name: str, now: float) -> WorkerView:
        """A worker is gone; what it held is in the view returned."""
        view = self.views.pop(name)
        if self._down_since is None and not self._any_up():
            self._down_since, self._next_line_at = now, now + WAITING_LINE_EVERY_S
        return view

    def back_off_after_init(self, now: float) -> None:
        """A worker died or raised while starting."""
        self.init_failures += 1
        pause_s = FIRST_RETRY_S
        if self.init_failures > 1:
            pause_s = BACK_OFF_S * 2.0 ** min(self.init_failures - 2, 10)
        self._pause(pause_s, now)

    def back_off_after_death(self, now: float) -> None:
        """A worker died at work; a device needs a moment before the next one takes it."""
        self.barren_deaths += 1
        self._pause(FIRST_RETRY_S * 2.0 ** min(self.barren_deaths - 1, 10), now)

    def heard(self, view: WorkerView, pulse: Pulse, now: float) -> None:
        """A pulse arrived; it counts as progress when more pictures are finished."""
        self._pulse_gaps.append(now - view.heard_at)
        grown = sum(
            max(count - view.finished.get(shard, 0), 0) for shard, count in pulse.finished.items()
        )
        if grown:
            self._change_gaps.append(now - view.changed_at)
            view.changed_at = now
            self.barren_deaths = 0
        view.recent, view.heard_at = grown, now
        view.finished, view.in_flight = pulse.finished, pulse.in_flight

    def hung(self, now: float) -> list[tuple[str, str]]:
        """Workers with leases that are silent, or pulse without moving; with the reason.

        A worker that pulses but finishes nothing is judged only once it is known how
        long pictures take here: the first one may need an hour on a CPU.
        """
        silent_s = max(SILENT_S, PATIENCE * _median(self._pulse_gaps))
        stalled_s = float("inf")
        if len(self._change_gaps) >= ENOUGH_SAMPLES:
            stalled_s = max(STALLED_S, PATIENCE * _median(self._change_gaps))
        found = []
        for view in self.views.values():
            if view.leases and now - view.heard_at > silent_s:
                found.append((view.name, f"silent for {duration(now - view.heard_at)}"))
            elif view.leases and now - view.changed_at > stalled_s:
                found.append((view.name, f"no picture for {duration(now - view.changed_at)}"))
        return found

    def overdue(self, now: float) -> bool:
        """Whether no worker has been up for longer than the run may wait."""
        return self._down_since is not None and now - self._down_since >= self._wait_s

    def waiting_line(self, what: str, now: float) -> str | None:
        """The line that is due every 30 s while no worker is up; None in between."""
        if self._down_since is None or now < self._next_line_at:
            return None
        self._next_line_at = now + WAITING_LINE_EVERY_S
        waited = duration(now - self._down_since)
        return f"waiting for {what}: 0 of {self.wanted} workers, {waited}"

    def _any_up(self) -> bool:
        return any(view.phase is not Phase.STARTING for view in self.views.values())

    def _pause(self, pause_s: float, now: float) -> None:
        jittered = min(pause_s, BACK_OFF_MAX_S) * self._rng.uniform(0.75, 1.0)
        self._not_before = max(self._not_before, now + jittered)


def _median(samples: deque[float]) -> float:
    return median(samples) if samples else 0.0

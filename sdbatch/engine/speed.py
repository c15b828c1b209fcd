"""How fast a worker draws, and how long what it holds will take: measured, never assumed.

Cost is the plan's estimate of work (`Shard.cost`), so that workers and shards of unlike
pictures can be compared. Older measurements fade: a worker that slows down looks slow
within a minute, one that says nothing looks slower with every second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

MEMORY_S = 60.0


@dataclass(slots=True)
class Meter:
    """Work done per second, over about the last `MEMORY_S` seconds."""

    _work: float = 0.0
    _time_s: float = 0.0

    def add(self, work: float, seconds: float) -> None:
        """Take a stretch of time into account in which `work` was done."""
        if seconds <= 0:
            return
        keep = math.exp(-seconds / MEMORY_S)
        self._work = self._work * keep + work
        self._time_s = self._time_s * keep + seconds

    def rate(self, silent_s: float = 0.0) -> float | None:
        """Work per second, when nothing was heard for `silent_s`; None while unmeasured."""
        if not self._time_s:
            return None
        return self._work / (self._time_s + silent_s)


def typical(rates: Iterable[float | None]) -> float | None:
    """The median of those that are known and above 0; None without any."""
    known = [rate for rate in rates if rate]
    return median(known) if known else None


def seconds_left(work: float, rate: float | None) -> float:
    """How long `work` takes at that rate; infinity for a worker that stands still."""
    return work / rate if rate else math.inf

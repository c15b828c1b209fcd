"""What commit records say of time: pictures a second, phases, workers.

A record tells when a shard began and ended and what its worker spent on each phase. Between
these two moments its pictures count as drawn evenly; that is as fine as records tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from sdbatch.audit.clock import parsed_time
from sdbatch.results import ShardResult

PHASES = ("load", "solvers", "text_encode", "denoise", "decode", "image_encode", "write")
"""Phases in the order in which a picture meets them."""
SLICES = 96
"""Points of the curve of pictures a second."""
WORKERS = 48
"""Workers that are shown one by one, the busiest first."""


@dataclass(slots=True)
class WorkerTime:
    """What one worker did.

    Attributes:
        seconds: From the begin of its first shard to the end of its last one.
    """

    name: str
    device: str
    shards: int = 0
    images: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    began: float = float("inf")
    ended: float = float("-inf")

    @property
    def seconds(self) -> float:
        """Wall time that its shards span."""
        return max(self.ended - self.began, 0.0)


@dataclass(frozen=True, slots=True)
class Timing:
    """When a dataset was drawn, how fast, and what took how long.

    Attributes:
        began: First begin of a shard, UTC; None when no record says. `ended` likewise.
        rates: Pictures a second in slices of equal length from `began` to `ended`.
        phases: Phase to seconds, of all workers together; phases may overlap.
        workers: The busiest first, at most `WORKERS`; `other_workers` counts the rest.
        occupancy: Share of lanes that held a row; None when nothing was counted.
    """

    began: datetime | None
    ended: datetime | None
    rates: tuple[float, ...]
    phases: Mapping[str, float]
    workers: tuple[WorkerTime, ...]
    other_workers: int
    occupancy: float | None

    @property
    def seconds(self) -> float:
        """Wall time from the first begin to the last end."""
        return (self.ended - self.began).total_seconds() if self.began and self.ended else 0.0


class Clockwork:
    """Adds up records; keeps three numbers of each."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float, int]] = []
        self._phases: Counter[str] = Counter()
        self._workers: dict[str, WorkerTime] = {}
        self._lanes = [0, 0]

    def add(self, result: ShardResult) -> None:
        """Take a shard into account."""
        images = result.success + result.failed + result.filtered
        spent = {name: max(seconds, 0.0) for name, seconds in result.phase_seconds.items()}
        self._phases.update(spent)
        self._lanes[0] += result.lane_steps
        self._lanes[1] += result.lane_slots
        worker = self._workers.setdefault(
            result.worker, WorkerTime(result.worker, result.device_name)
        )
        worker.shards += 1
        worker.images += images
        worker.phases.update(spent)
        began, ended = parsed_time(result.started_at), parsed_time(result.finished_at)
        if began is not None and ended is not None:
            span = (began.timestamp(), max(ended, began).timestamp())
            self._spans.append((*span, images))
            worker.began, worker.ended = min(worker.began, span[0]), max(worker.ended, span[1])

    def result(self) -> Timing:
        """What was added up."""
        busiest = sorted(self._workers.values(), key=lambda one: (-one.images, one.name))
        began = min((span[0] for span in self._spans), default=None)
        ended = max((span[1] for span in self._spans), default=None)
        return Timing(
            began=None if began is None else datetime.fromtimestamp(began, UTC),
            ended=None if ended is None else datetime.fromtimestamp(ended, UTC),
            rates=tuple(_rates(self._spans)),
            phases=in_order(self._phases),
            workers=tuple(busiest[:WORKERS]),
            other_workers=len(busiest[WORKERS:]),
            occupancy=self._lanes[0] / self._lanes[1] if self._lanes[1] else None,
        )


def _rates(spans: Iterable[tuple[float, float, int]]) -> list[float]:
    """Pictures a second in `SLICES` slices: differences of how many were drawn by then."""
    table = np.array(list(spans), dtype=np.float64).reshape(-1, 3)
    if not len(table) or table[:, 1].max() <= table[:, 0].min():
        return []
    edges = np.linspace(table[:, 0].min(), table[:, 1].max(), SLICES + 1)
    drawn = np.zeros(SLICES + 1)
    for began, ended, images in table:
        share = np.clip((edges - began) / max(ended - began, 1e-9), 0.0, 1.0)
        share[edges >= ended] = 1.0  # also where both are one moment
        share[0] = 0.0
        drawn += images * share
    return [float(rate) for rate in np.diff(drawn) / (edges[1] - edges[0])]


def in_order(phases: Mapping[str, float]) -> dict[str, float]:
    """Phases that took any time, as a picture meets them; unknown ones last."""
    known = {name: phases[name] for name in PHASES if phases.get(name, 0) > 0}
    return known | {name: phases[name] for name in sorted(phases) if name not in PHASES}

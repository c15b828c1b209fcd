"""Sums over the commit records of a run, in one pass and in the memory of a few records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sdbatch.audit.clock import parsed_time
from sdbatch.records import Redo
from sdbatch.results import ShardResult
from sdbatch.storage.record import CommitRecord
from sdbatch.storage.rework import Rework

RECENT_RECORDS = 64
DEVICE_PHASES = ("load", "text_encode", "denoise", "decode", "swap")
"""Phases in which a worker's device is at work; encoding and writing overlap with them."""


@dataclass
class Counts:
    """What the records of a run add up to.

    Attributes:
        device_s: Seconds in which devices were at work for shards begun before `since`.
        redo_shards: Shards that an open rework has still to make again.
        redo_images: Pictures that it has still to draw; those of damaged shards are unknown.
    """

    since: datetime | None = None
    rework: Rework | None = None
    shards: int = 0
    success: int = 0
    failed: int = 0
    filtered: int = 0
    device_s: float = 0.0
    redo_shards: int = 0
    redo_images: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    _last: list[tuple[str, str, int]] = field(default_factory=list)

    @classmethod
    def of(
        cls, records: Iterable[CommitRecord], since: str | None, rework: Rework | None
    ) -> Counts:
        """Add up standing records, in any order.

        Args:
            since: Shards begun from then on are left out of `device_s`; None leaves out none.
            rework: The open one, if there is one.
        """
        counts = cls(parsed_time(since), rework)
        for record in records:
            counts._add(record.result)
            counts._add_rework(record)
        return counts

    @property
    def images(self) -> int:
        """Pictures of committed shards."""
        return self.success + self.failed + self.filtered

    def fill(self, job: Mapping[str, Any]) -> bool:
        """Whether these are all shards and pictures that were planned."""
        return (self.shards, self.images) == (job["num_shards"], job["images"])

    def rate(self) -> float | None:
        """Pictures per second over the last records; None when they say nothing."""
        last = sorted(self._last)[-RECENT_RECORDS:]
        begins = [begun for _, started, _ in last if (begun := parsed_time(started))]
        end = parsed_time(last[-1][0]) if last else None
        if end is None or not begins or (seconds := (end - min(begins)).total_seconds()) <= 0:
            return None
        return sum(images for _, _, images in last) / seconds

    def _add(self, result: ShardResult) -> None:
        images = result.success + result.failed + result.filtered
        self.shards += 1
        self.success += result.success
        self.failed += result.failed
        self.filtered += result.filtered
        for name, count in result.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        begun = parsed_time(result.started_at) if self.since else None
        if begun is None or self.since is None or begun < self.since:
            self.device_s += sum(result.phase_seconds.get(name, 0.0) for name in DEVICE_PHASES)
        self._last.append((result.finished_at, result.started_at, images))
        if len(self._last) > 2 * RECENT_RECORDS:
            self._last = sorted(self._last)[-RECENT_RECORDS:]

    def _add_rework(self, record: CommitRecord) -> None:
        shard = record.result.shard_id
        if self.rework is None or record.revision >= self.rework.shards.get(shard, 0):
            return
        self.redo_shards += 1
        self.redo_images += _redrawn(record.result, self.rework.redo)


def _redrawn(result: ShardResult, redo: Redo) -> int:
    """Pictures of a standing shard that a rework draws again, as far as records know."""
    if redo.kind == "filtered":
        return result.filtered
    if redo.kind != "failed":
        return 0
    if not redo.error_types:
        return result.failed
    return sum(result.errors.get(name, 0) for name in redo.error_types)

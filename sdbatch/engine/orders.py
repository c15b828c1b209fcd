"""What a worker is told from outside, in order: leases, and what follows on them."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from sdbatch.engine.events import Lease


@dataclass(frozen=True, slots=True)
class Shared:
    """An order: another worker draws this shard too."""

    shard_id: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """An order: nobody wants this shard from here any more."""

    shard_id: int


Orders = queue.SimpleQueue[Lease | Shared | Dropped]

"""To be the driver of a run: the lease on its output, and the ears for those who say stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sdbatch.engine.driver_loop import Stop
from sdbatch.engine.signals import stop_on_signals
from sdbatch.storage.lease import DriverLease, hold_lease
from sdbatch.storage.store import Store


@contextmanager
def lead(store: Store, run: str, note: Callable[[str], None], stop: Stop) -> Iterator[DriverLease]:
    """Drive a run inside the block; a signal, `sdbatch stop` or a rival sets `stop`.

    Raises:
        LeaseHeldError: Another driver is alive.
        StorageError: The store failed.
    """
    with (
        hold_lease(store, run, on_wait=note, on_lost=stop.request, on_stop=stop.request) as lease,
        stop_on_signals(stop, note),
    ):
        yield lease

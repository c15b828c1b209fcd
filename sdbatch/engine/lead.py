"""To be the driver of a run: the lease on its output, and the ears for those who say stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sdbatch.engine.driver_loop import Stop
from sdbatch.engine.signals import stop_on_signals
from sdbatch.errors import StoppedError, StorageError
from sdbatch.storage.lease import DriverLease, hold_lease
from sdbatch.storage.store import Store


@contextmanager
def lead(
    store: Store, run: str, note: Callable[[str], None], stop: Stop, drain_s: float = 120.0
) -> Iterator[DriverLease]:
    """Drive a run inside the block; a signal, `sdbatch stop` or a rival sets `stop`.

    Args:
        drain_s: What a drain may take once the lease is held; before, nothing is in flight.

    Raises:
        LeaseHeldError: Another driver is alive.
        StorageError: The store failed.
        StoppedError: A signal came while the lease was waited for.
    """

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if stop.is_set():
            raise StoppedError(f"{stop.reason} before anything was begun")

    with (
        stop_on_signals(stop, note, drain_s=0.0) as ending,
        stopped_in_order(stop),
        hold_lease(
            store, run, on_wait=note, on_lost=stop.request, on_stop=stop.request, sleep=sleep
        ) as lease,
    ):
        ending.allow(drain_s)
        yield lease


@contextmanager
def stopped_in_order(stop: Stop) -> Iterator[None]:
    """After a wish to end, a store that fails is no reason to end otherwise.

    Raises:
        StoppedError: In place of a `StorageError` that may pass.
    """
    try:
        yield
    except StorageError as error:
        if not (stop.is_set() and error.retryable):
            raise
        raise StoppedError(f"{stop.reason}; meanwhile the store failed: {error}") from error

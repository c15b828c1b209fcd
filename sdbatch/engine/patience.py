"""Patience with a store that fails: finished pictures are worth waiting for.

A store retries each of its verbs for about a minute. What still fails is most often an
outage that ends, and whoever gives up at once draws a whole shard again. So the commit of
a finished shard is tried again, verb by verb, for a bounded time; all of them are safe to
repeat. Meanwhile bounded queues fill and drawing pauses by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, cast

from sdbatch.errors import LocalDiskError, SdbatchError
from sdbatch.storage.store import Store

PATIENCE_S = 300.0
HURRIED_S = 20.0  # a worker that is asked to end waits no longer
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0


def is_outage(error: Exception) -> bool:
    """Whether it is a store that failed, and another try may succeed."""
    if not isinstance(error, SdbatchError) or isinstance(error, LocalDiskError):
        return False
    return error.exit_code == 3 and error.retryable


class Patience:
    """How long one worker has borne with its store. Threads may share it.

    Args:
        hurried: Whether the worker was asked to end.
        say: Told once when the store fails, and once when it is back: event, line.
    """

    def __init__(self, hurried: Callable[[], bool], say: Callable[[str, str], None]) -> None:
        self._hurried, self._say = hurried, say
        self._since: float | None = None
        self._lock = threading.Lock()

    def bears(self, error: Exception) -> bool:
        """Whether to try again later, after this error."""
        if not is_outage(error):
            return False
        now = time.monotonic()
        with self._lock:
            first, self._since = self._since is None, self._since or now
            borne_s = now - self._since
        if first:
            self._say("store_trouble", f"the store fails, trying again: {error}")
        return borne_s < (HURRIED_S if self._hurried() else PATIENCE_S)

    def succeeded(self) -> None:
        """The store answered as it should."""
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            self._say("store_back", f"the store is back after {time.monotonic() - since:.0f} s")


def patient(store: Store, patience: Patience, wanted: Callable[[], bool]) -> Store:
    """The same store, whose verbs are tried again while patience lasts.

    Args:
        wanted: Whether the outcome still matters to anybody.
    """
    return cast(Store, _PatientStore(store, patience, wanted))


class _PatientStore:
    """Stands in for a store; a verb of it is a verb of the store."""

    def __init__(self, store: Store, patience: Patience, wanted: Callable[[], bool]) -> None:
        self._store, self._patience, self._wanted = store, patience, wanted

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._again(verb) if callable(verb) else verb

    def _again(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            pause_s = FIRST_PAUSE_S
            while True:
                try:
                    value = verb(*args, **options)
                except SdbatchError as error:
                    if not (self._patience.bears(error) and self._wanted()):
                        raise
                else:
                    self._patience.succeeded()
                    return value
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

        return call

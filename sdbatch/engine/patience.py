"""Patience with a store that fails: finished pictures are worth waiting for.

A store retries each of its verbs for about a minute. What still fails is most often an
outage that ends, and whoever gives up at once draws a whole shard again. So the commit of
a finished shard is tried again, verb by verb, for a bounded time; all of them are safe to
repeat. Meanwhile bounded queues fill and drawing pauses by itself.
"""

from __future__ import annotations

import errno
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from sdbatch.errors import LocalDiskError, SdbatchError
from sdbatch.storage.retrying import remaining_s
from sdbatch.storage.store import Store

PATIENCE_S = 300.0
HURRIED_S = 20.0  # a worker that is asked to end waits no longer
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
PROOF = 0.25  # a part of so many of the pictures that failed shows that the store is back
_NO_ROOM = tuple(os.strerror(number).lower() for number in (errno.ENOSPC, errno.EDQUOT))


def is_full(message: str) -> bool:
    """Whether a store fails for want of room: what is small may fit all the same."""
    said = message.lower()
    return "quota" in said or any(words in said for words in _NO_ROOM)


def _untold(_message: str, _failing_s: float, _first: bool) -> None:
    """Nobody wants to know."""


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
        tell: Told of every failure: what it was, how long the store fails, whether first.
    """

    def __init__(
        self,
        hurried: Callable[[], bool],
        say: Callable[[str, str], None],
        tell: Callable[[str, float, bool], None] = _untold,
    ) -> None:
        self._hurried, self._say, self._tell = hurried, say, tell
        self._since: float | None = None
        self._weight, self._full = 0.0, False
        self._lock = threading.Lock()

    def bears(self, error: Exception, began: float | None = None, weight: float = 0.0) -> bool:
        """Whether to try again later, after this error.

        Args:
            began: When what failed was begun; now by default.
            weight: Pictures that were to be stored.
        """
        if not is_outage(error):
            return False
        now = time.monotonic()
        with self._lock:
            first, self._since = self._since is None, self._since or began or now
            borne_s = now - self._since
            self._weight = max(self._weight, weight)
            self._full = self._full or is_full(str(error))
        if first:
            self._say("store_trouble", f"the store fails, trying again: {error}")
        self._tell(str(error), borne_s, first)
        return remaining_s() > 0 and borne_s < (HURRIED_S if self._hurried() else PATIENCE_S)

    def succeeded(self, weight: float = math.inf, commit: bool = False) -> bool:
        """The store answered as it should.

        Args:
            weight: Pictures stored by it; infinity for what had failed before.
            commit: A whole shard stands.

        Returns:
            Whether it shows that the store works: a trifle does not after a failure.
        """
        with self._lock:
            if self._since and not commit and (self._full or weight < PROOF * self._weight):
                return False
            since, self._since = self._since, None
            self._weight, self._full = 0.0, False
        if since is not None:
            self._say("store_back", f"the store is back after {time.monotonic() - since:.0f} s")
        return True


def patient(
    store: Store, patience: Patience, wanted: Callable[[], bool], weight: float = 0.0
) -> Store:
    """The same store, whose verbs are tried again while patience lasts.

    Args:
        wanted: Whether the outcome still matters to anybody.
        weight: Pictures that are being stored.
    """
    return cast(Store, _PatientStore(store, patience, wanted, weight))


class _PatientStore:
    """Stands in for a store; a verb of it is a verb of the store."""

    def __init__(
        self, store: Store, patience: Patience, wanted: Callable[[], bool], weight: float
    ) -> None:
        self._store, self._patience, self._wanted = store, patience, wanted
        self._weight = weight

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._again(verb) if callable(verb) else verb

    def _again(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            pause_s = FIRST_PAUSE_S
            while True:
                began = time.monotonic()
                try:
                    value = verb(*args, **options)
                except SdbatchError as error:
                    bears = self._patience.bears(error, began, self._weight)
                    if not (bears and self._wanted()):
                        raise
                else:
                    self._patience.succeeded()
                    return value
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

        return call

"""Does this store keep its word? Asked once, before a new run trusts it.

Some stores take the condition "only if absent" and ignore it, some only once versioning was ever
on, and no scheme or version tells which. So eight racers create one object: one of them
may win, a later one must be refused, and a fresh listing must show it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

from sdbatch.errors import CommitUnknownError, StorageError, StoreAccessError
from sdbatch.storage import layout
from sdbatch.storage.store import Store

RACERS = 8
START_S = 10.0


def probe(store: Store, run: str = layout.MAIN) -> None:
    """Make sure that a store creates an object at most once, and lists what it holds.

    Leaves nothing behind.

    Raises:
        StoreAccessError: It does not keep its word; one driver alone may use it all the same.
        StorageError: It could not be asked.
    """
    key = layout.token_key(f"probe-{uuid.uuid4().hex[:16]}", run)
    try:
        winners = _race(store, key)
        if len(winners) != 1:
            raise _unfit(store, f"{len(winners)} of {RACERS} writers created one object")
        stands = store.get(key)
        if stands != _body(winners[0]):
            raise _unfit(store, "an object that was created once changed afterwards")
        if store.create_once(key, b"late") or store.get(key) != stands:
            raise _unfit(store, "an object that stands was created again")
        if [info.key for info in store.list(key)] != [key]:
            raise _unfit(store, "a listing does not show an object that was just created")
    finally:
        with suppress(StorageError):  # a leftover of some bytes; the run's own error matters more
            store.delete(key)


def _race(store: Store, key: str) -> list[int]:
    """Numbers of the racers that won; each is told apart by its bytes."""
    start = Barrier(RACERS)

    def enter(number: int) -> bool:
        start.wait(START_S)
        return store.create_once(key, _body(number))

    with ThreadPoolExecutor(RACERS, "probe") as pool:
        entered = [pool.submit(enter, number) for number in range(RACERS)]
        return [number for number, one in enumerate(entered) if _outcome(one.result)]


def _outcome(result: Callable[[], bool]) -> bool:
    """Whether a racer won; one that could not find out has not."""
    try:
        return result()
    except CommitUnknownError as error:
        raise StorageError(f"the store could not be probed: {error.reason}") from error


def _body(number: int) -> bytes:
    return b"racer %d" % number


def _unfit(store: Store, reason: str) -> StoreAccessError:
    return StoreAccessError(
        f"{store.url}: {reason}, so two drivers could overwrite each other: use another store, "
        "or --single-driver and never start a second one"
    )

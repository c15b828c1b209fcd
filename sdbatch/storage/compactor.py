"""Writes compactions beside a run, from a thread of its own.

It counts commits and gathers the records from time to time. Nothing waits for it and
nothing fails by it: a store that refuses a compaction is asked again after the next commits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice

from sdbatch.errors import SdbatchError
from sdbatch.storage import layout
from sdbatch.storage.commit import READERS, WINDOW, RunFolder
from sdbatch.storage.compaction import Line, compaction_numbers, pack
from sdbatch.storage.record import parse_record
from sdbatch.storage.standing import Bodies, Standing, find_standing
from sdbatch.storage.store import Store
from sdbatch.storage.success import newest_success

EVERY = 1000
CLOSING_S = 60.0


class Compactor:
    """Gathers the records of one run while it goes on.

    Args:
        committed: Shards that had a record when the driver began; most may be compacted.
        every: Commits after which the next compaction is written.
    """

    def __init__(
        self, store: Store, run: str = layout.MAIN, committed: int = 0, every: int = EVERY
    ) -> None:
        self._store, self._run, self._every = store, run, every
        self._lock = threading.Lock()
        self._new = committed  # at most so many are in no compaction
        self._due = every
        self._thread: threading.Thread | None = None
        self._start(self._due)

    def note(self) -> None:
        """A shard, or a revision of it, was committed."""
        with self._lock:
            self._new += 1
        self._start(self._due)

    def close(self, timeout_s: float = CLOSING_S) -> None:
        """Gather what is still due and wait for it, but no longer than this."""
        for _ in range(2):  # a gathering under way may have begun before the last commits
            if self._thread is not None:
                self._thread.join(timeout_s)
            if self._thread is None or not self._thread.is_alive():
                self._start(self._every)

    def _start(self, due: int) -> None:
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if busy or self._new < due:
                return
            counted, self._new = self._new, 0
            self._thread = threading.Thread(
                target=self._gather, args=(counted,), name="compactor", daemon=True
            )
            self._thread.start()

    def _gather(self, counted: int) -> None:
        left = counted
        try:
            with suppress(SdbatchError):
                left = compact(self._store, self._run, self._every)
        finally:
            with self._lock:
                self._new += left
                # What failed just now is not tried again at once.
                self._due = self._every + (left if left >= self._every else 0)


def compact(store: Store, run: str = layout.MAIN, at_least: int = 1) -> int:
    """Write the next compaction when at least so many standing records are in none.

    Only these are read; the others are copied from the compaction before. Records that cannot
    be read stay out of it.

    Returns:
        Records that are in no compaction now.

    Raises:
        StorageError: The store failed; nothing depends on it.
    """
    folder = RunFolder(store, run)
    plan = folder.plan()
    if plan is None:
        return 0
    success = newest_success(store, run)  # before the listing: later reworks may be missing
    standing = find_standing(store, run, plan)
    before = standing.compaction.revisions if standing.compaction else {}
    missing = sum(before.get(shard) != revision for shard, revision in standing.revisions.items())
    if missing < max(at_least, 1):
        return missing
    numbers = compaction_numbers(store, run)
    lines = _lines(store, run, standing)
    data = pack(lines, plan.plan_id, -1 if success is None else success)
    key = layout.compaction_key(run, numbers[-1] + 1 if numbers else 0)
    return 0 if store.create_once(key, data) else missing


def _lines(store: Store, run: str, standing: Standing) -> Iterator[Line]:
    """Standing records in shard order, the new ones read by several threads."""
    copies = Bodies(standing)
    shards = iter(sorted(standing.revisions))

    def read(shard_id: int) -> Line | None:
        revision = standing.revisions[shard_id]
        key = layout.commit_key(run, shard_id, revision)
        record = store.get(key)
        with suppress(SdbatchError):
            parsed = parse_record(key, record)
            if (parsed.result.shard_id, parsed.revision) == (shard_id, revision):
                return Line(shard_id, revision, standing.tags[shard_id], record)
        return None

    with ThreadPoolExecutor(READERS, thread_name_prefix="compactor") as pool:
        while window := list(islice(shards, WINDOW)):
            lines = {shard_id: copies.take(shard_id) for shard_id in window}
            new = [shard_id for shard_id, line in lines.items() if line is None]
            found = map(read, new) if len(new) <= READERS else pool.map(read, new)
            lines |= zip(new, found, strict=True)
            yield from (line for line in lines.values() if line is not None)

"""Level 0: does the newest compaction say what the records say? It is only a copy of them."""

from __future__ import annotations

from collections.abc import Iterator

from sdbatch.audit.report import Problem
from sdbatch.storage import layout
from sdbatch.storage.compaction import Line, newest_compaction
from sdbatch.storage.store import Store


class CopyCheck:
    """Compares the newest compaction with the records, which are shown in shard order."""

    def __init__(self, store: Store, run: str, plan_id: str) -> None:
        compaction = newest_compaction(store, run, plan_id)
        self._key = layout.compaction_key(run, compaction.number) if compaction else ""
        self._lines: Iterator[Line] = compaction.lines() if compaction else iter(())
        self._line = next(self._lines, None)

    def check(self, shard_id: int, revision: int, record: bytes) -> Iterator[Problem]:
        """What the compaction says otherwise of this shard, and of those before it."""
        yield from self._unheard(shard_id)
        if self._line and self._line.shard_id == shard_id:
            # An older revision is fine: the compaction is older than the rework.
            newer = self._line.revision > revision
            if newer or (self._line.revision == revision and self._line.record != record):
                yield self._problem(shard_id)
            self._line = next(self._lines, None)

    def finish(self) -> Iterator[Problem]:
        """What it says of shards that have no record."""
        yield from self._unheard(layout.MAX_SHARDS)

    def _unheard(self, before: int) -> Iterator[Problem]:
        while self._line and self._line.shard_id < before:
            yield self._problem(self._line.shard_id)
            self._line = next(self._lines, None)

    def _problem(self, shard_id: int) -> Problem:
        message = f"holds another record of shard {shard_id} than stands; it is a copy, delete it"
        return Problem(self._key, 0, "compaction", message)

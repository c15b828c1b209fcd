"""Which pictures of a dataset a page shows: a sample, spread evenly, the same at every call.

Places are chosen from counts in the commit records alone. Of a long shard only the beginning
is read, so that a sample of a terabyte costs a few gigabytes of reading and no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sdbatch.audit.pictures import shard_rows
from sdbatch.dataset.schema import IMAGE
from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.report.thumbnails import Thumbnail, thumbnail
from sdbatch.storage.commit import CommitRecord
from sdbatch.storage.store import Store
from sdbatch.transfer.sources import Scores

READ_BYTES = 2 * 2**30
"""Most bytes of pictures that are read for a sample."""
LEAST_SHARE = 0.1
"""Share of a sample for pictures that failed, and for filtered ones, if there are so many."""

NOT_SHOWN = frozenset({"image", "traceback", "row_hash", "sha256", "pixel_sha256", "status"})


@dataclass(frozen=True, slots=True)
class Card:
    """A picture as the page shows it.

    Attributes:
        status: How it ended.
        thumbnail: None for a picture that failed, or cannot be read.
        columns: Everything else that its row says, without what is null.
    """

    key: str
    run: str
    status: str
    prompt: str
    thumbnail: Thumbnail | None
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Lot:
    """Rows of one shard, of one end, from which some are taken.

    Attributes:
        kind: `data`, `errors` or `filtered`.
        count: Rows of it in the sample.
    """

    run: str
    record: CommitRecord
    kind: str
    rows: int
    size_bytes: int
    count: int

    def with_scores(self, rows: pa.RecordBatch, scores: Scores) -> pa.RecordBatch:
        """Rows with what was scored after the run; pictures that were not drawn have no score."""
        shard_id = self.record.result.shard_id
        return scores.join(rows, self.run, shard_id) if self.kind == "data" else rows


def shares(success: int, failed: int, filtered: int, most: int) -> dict[str, int]:
    """How many pictures of each end are shown, so that rare ends are seen too.

    Args:
        most: Pictures shown altogether.
    """
    counts = {"data": success, "errors": failed, "filtered": filtered}
    least = int(most * LEAST_SHARE)
    taken = {kind: min(count, least) for kind, count in counts.items()}
    left = {kind: counts[kind] - taken[kind] for kind in counts}
    room, rest = most - sum(taken.values()), max(sum(left.values()), 1)
    for kind, count in left.items():
        taken[kind] += min(count, count * room // rest)
    for kind, count in counts.items():  # what rounding left over
        taken[kind] += min(count - taken[kind], most - sum(taken.values()))
    return taken


class Spread:
    """Places `0, total/count, 2 total/count, ...` of rows that come one lot after the other.

    Args:
        total: Rows of all lots together.
        count: Places wanted.
    """

    def __init__(self, total: int, count: int) -> None:
        self._total, self._count = max(total, 1), min(count, total)
        self._before = 0

    def take(self, rows: int) -> int:
        """How many places lie in the next so many rows."""
        first = -(-self._before * self._count // self._total)
        self._before += rows
        end = -(-self._before * self._count // self._total)
        return min(end - first, rows)


def draw_cards(store: Store, lots: Sequence[Lot], scores: Scores) -> Iterator[Card]:
    """Read the chosen rows of every lot, with thumbnails.

    A shard that cannot be read gives none of its pictures; `sdbatch verify` names it.
    """
    room = READ_BYTES // max(len(lots), 1)
    for lot in lots:
        try:
            yield from _cards(store, lot, room, scores)
        except (DamagedError, ObjectNotFoundError):
            continue


def _cards(store: Store, lot: Lot, room_bytes: int, scores: Scores) -> Iterator[Card]:
    places = _places(lot, room_bytes)
    before = 0
    pictures = lot.kind != "errors"
    for batch in shard_rows(store, lot.record, None, pictures=pictures, kind=lot.kind):
        inside = [place - before for place in places if before <= place < before + batch.num_rows]
        if inside:
            chosen = lot.with_scores(batch.take(pa.array(inside)), scores)
            for row in chosen.to_pylist():
                yield _card(row, lot.run)
        before += batch.num_rows
        if before > places[-1]:
            return


def _places(lot: Lot, room_bytes: int) -> list[int]:
    """Rows of a lot in even steps, as far as the room for reading reaches."""
    mean = max(lot.size_bytes / max(lot.rows, 1), 1.0)
    reach = min(lot.rows, max(lot.count, int(room_bytes / mean)))
    return [reach * (2 * number + 1) // (2 * lot.count) for number in range(lot.count)]


def _card(row: dict[str, Any], run: str) -> Card:
    picture = (row.get(IMAGE.name) or {}).get("bytes")
    small = None
    if picture:
        try:
            small = thumbnail(picture, row["key"])
        except DamagedError:
            small = None  # shown without a picture; the audit is another command's task
    columns = {
        name: value
        for name, value in row.items()
        if value is not None and name not in NOT_SHOWN and name not in ("key", "prompt")
    }
    return Card(
        key=row["key"],
        run=run,
        status=row.get("status") or "success",
        prompt=row.get("prompt") or "",
        thumbnail=small,
        columns=columns,
    )

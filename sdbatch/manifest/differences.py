"""What two tables of rows have in common, in bounded memory: new, gone, changed, same.

Each row becomes a digest that says which row it is (its id, or all it asks for) and eight
bytes a column. These go to temporary files by the digest, equal ones meet in one file, and
one pair of files at a time is compared.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.closing import Closing
from sdbatch.errors import StorageError

PARTITIONS = 64
EXAMPLES = 5
Entries = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of one side.

    Attributes:
        digests: Sixteen bytes each: which row it is.
        values: Columns that are compared.
        positions: Of each in its manifest; rows come in this order.
    """

    digests: Sequence[bytes]
    values: pa.Table
    positions: NDArray[np.int64]


@dataclass(slots=True)
class Difference:
    """What there is between two sides.

    Attributes:
        by: What makes two rows the same one: `id` or `content`.
        columns: Column to how many rows it differs in.
        examples: Kind, and for `changed` the columns, of the first rows of each kind: their
            positions in the old and the new side, None where a side has no such row.
    """

    by: str
    new: int = 0
    changed: int = 0
    same: int = 0
    gone: int = 0
    columns: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `--json` prints them."""
        return asdict(self)


def compare(
    old: Iterable[Rows],
    new: Iterable[Rows],
    columns: Sequence[str],
    by: str,
    *,
    open_side: str = "",
) -> Difference:
    """Compare two sides.

    Args:
        old: Rows of the first side, in order.
        new: Rows of the second.
        columns: What is compared, in both.
        by: For the answer.
        open_side: `old` or `new`: a null of this side leaves a value open and differs from none.

    Raises:
        StorageError: The folder for temporary files is full.
    """
    kind = np.dtype(
        [("high", "<u8"), ("low", "<u8"), ("row", "<i8"), ("at", "<u8", (len(columns),))]
    )
    found = Difference(by)
    counts: Counter[str] = Counter()
    with _Partitions(kind) as left, _Partitions(kind) as right:
        for side, partitions in ((old, left), (new, right)):
            for rows in side:
                partitions.add(rows, columns)
        for part in range(PARTITIONS):
            pairs = _paired(left.read(part), right.read(part))
            _count(pairs, columns, found, counts, open_side)
    found.columns = dict(counts.most_common())
    for kept in found.examples.values():
        kept.sort(key=lambda one: one["old"] if one["new"] is None else one["new"])
        del kept[EXAMPLES:]
    return found


class _Partitions(Closing):
    """The entries of one side in nameless files, by their digest."""

    def __init__(self, kind: np.dtype[np.void]) -> None:
        self._kind = kind
        self._files: dict[int, IO[bytes]] = {}

    def close(self) -> None:
        """Let go of what is open."""
        for file in self._files.values():
            file.close()

    def add(self, rows: Rows, columns: Sequence[str]) -> None:
        words = np.frombuffer(b"".join(rows.digests), "<u8").reshape(-1, 2)
        entries = np.zeros(len(words), self._kind)
        entries["high"], entries["low"] = words[:, 0], words[:, 1]
        entries["row"] = rows.positions
        for place, name in enumerate(columns):
            entries["at"][:, place] = value_hashes(rows.values.column(name))
        target = (words[:, 0] % PARTITIONS).astype(np.int64)
        order = np.argsort(target, kind="stable")
        ends = np.cumsum(np.bincount(target, minlength=PARTITIONS))
        try:
            for part, chunk in enumerate(np.split(entries[order], ends[:-1])):
                if len(chunk):
                    file = self._files.get(part) or tempfile.TemporaryFile()  # noqa: SIM115
                    self._files[part] = file
                    file.write(chunk.tobytes())
        except OSError as error:
            where = tempfile.gettempdir()
            raise StorageError(f"{where}: {error}, make room there or set TMPDIR") from error

    def read(self, part: int) -> Entries:
        if part not in self._files:
            return np.empty(0, self._kind)
        self._files[part].seek(0)
        return np.frombuffer(self._files[part].read(), self._kind)


def value_hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Eight bytes a value, 0 for null; equal texts of values have equal ones."""
    if pa.types.is_nested(column.type):
        texts = [None if one is None else repr(one) for one in column.to_pylist()]
        column = pa.chunked_array([pa.array(texts, pa.string())])
    coded = column.cast(pa.string()).cast(pa.binary()).combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    hashes = [_hash(value) for value in coded.dictionary.to_pylist()]
    known = np.array([0, *hashes], np.uint64)
    codes: NDArray[np.int64] = pc.fill_null(coded.indices.cast(pa.int64()), -1).to_numpy()
    return np.asarray(known[codes + 1], np.uint64)


def _hash(value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little") | 1


def _paired(old: Entries, new: Entries) -> tuple[Entries, Entries, Entries, Entries]:
    """Entries of both sides that are one row, in pairs; then those of one side alone.

    Of equal digests the first of one side meets the first of the other, and so on.
    """
    high, low = (np.concatenate([old[name], new[name]]) for name in ("high", "low"))
    rank = np.concatenate([_ranks(old), _ranks(new)])
    side = np.repeat([0, 1], [len(old), len(new)])
    order = np.lexsort((side, rank, low, high))
    ahead, behind = order[:-1], order[1:]
    meet = (high[ahead] == high[behind]) & (low[ahead] == low[behind])
    meet &= rank[ahead] == rank[behind]
    alone = np.ones(len(order), np.bool_)
    alone[ahead[meet]] = alone[behind[meet]] = False
    gone, fresh = alone[: len(old)], alone[len(old) :]
    return old[ahead[meet]], new[behind[meet] - len(old)], old[gone], new[fresh]


def _ranks(entries: Entries) -> NDArray[np.int64]:
    """How many equal digests precede each entry."""
    order = np.lexsort((entries["row"], entries["low"], entries["high"]))
    high, low = entries["high"][order], entries["low"][order]
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    place = np.arange(len(order))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = place - np.maximum.accumulate(np.where(fresh, place, 0))
    return ranks


def _count(
    pairs: tuple[Entries, Entries, Entries, Entries],
    columns: Sequence[str],
    found: Difference,
    counts: Counter[str],
    open_side: str,
) -> None:
    old, new, gone, fresh = pairs
    differs = old["at"] != new["at"]
    if open_side:
        differs &= (old if open_side == "old" else new)["at"] != 0
    changed = differs.any(axis=1) if len(columns) else np.zeros(len(old), np.bool_)
    found.changed += int(changed.sum())
    found.same += int((~changed).sum())
    found.gone += len(gone)
    found.new += len(fresh)
    for place, name in enumerate(columns):
        if differs[:, place].any():
            counts[name] += int(differs[:, place].sum())
    for place in np.flatnonzero(changed)[:EXAMPLES].tolist():
        named = [name for name, one in zip(columns, differs[place], strict=True) if one]
        _example(found, "changed", int(old["row"][place]), int(new["row"][place]), named)
    for row in gone["row"][:EXAMPLES].tolist():
        _example(found, "gone", row, None, [])
    for row in fresh["row"][:EXAMPLES].tolist():
        _example(found, "new", None, row, [])


def _example(
    found: Difference, kind: str, old: int | None, new: int | None, named: list[str]
) -> None:
    found.examples.setdefault(kind, []).append({"old": old, "new": new, "columns": named})

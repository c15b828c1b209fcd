"""Which planned pictures stand already, in bounded memory: two tables joined by hash.

Entries of 16 bytes of hash go to one of 64 temporary files, chosen by the hash, as in
`repeats.py`: equal ones meet in one file of each side, and only one pair of files is in
memory at a time. What grows with the manifest are three bytes a row. Requests are compared
together with the picture's number, names (ids, or prompt and seed) without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sdbatch.closing import Closing
from sdbatch.errors import StorageError

PARTITIONS = 64
BUFFER_BYTES = 1 << 16
_HASH = [("high", "<u8"), ("low", "<u8")]
_PLANNED = np.dtype([*_HASH, ("row", "<i8")])
_STANDING = np.dtype(_HASH)
_NAMED = np.dtype([*_HASH, ("run", "<i4")])
_SPREAD = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of every row.

    Attributes:
        same: All of its pictures stand.
        changed: They do not, yet something stands under its name.
        changed_in: Changed rows by the newest run that holds their name.
    """

    same: NDArray[np.bool_]
    changed: NDArray[np.bool_]
    changed_in: dict[int, int]


class Matching(Closing):
    """Takes in planned and standing pictures in any order, then compares them.

    Args:
        num_rows: Rows of the manifest; rows of which no picture is planned never match.
    """

    def __init__(self, num_rows: int) -> None:
        self._left = np.zeros(num_rows, np.int16)
        self._files: dict[tuple[str, int], IO[bytes]] = {}
        self._open = ExitStack()

    def close(self) -> None:
        """Let go of what is open."""
        self._open.close()
        self._files.clear()

    def plan(
        self, rows: NDArray[np.int64], images: NDArray[np.int64], requests: Words, names: Words
    ) -> None:
        """Take in planned pictures; hashes have the shape [n, 2].

        Raises:
            StorageError: The folder for temporary files is full.
        """
        np.add.at(self._left, rows, 1)
        self._write("planned", _entries(_PLANNED, _numbered(requests, images), row=rows))
        self._write("called", _entries(_PLANNED, names, row=rows))

    def stand(self, images: NDArray[np.int64], requests: Words) -> None:
        """Take in standing pictures of any run.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        self._write("standing", _entries(_STANDING, _numbered(requests, images)))

    def call(self, run: int, names: Words) -> None:
        """Take in names of what one run drew; the higher its number, the newer it is.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        self._write("named", _entries(_NAMED, names, run=run))

    def compare(self) -> Matched:
        """What became of every row; to be called once."""
        planned = self._left > 0
        for ours, theirs in self._pairs("planned", _PLANNED, "standing", _STANDING):
            stands, _ = _found(ours, theirs, np.zeros(len(theirs), np.int32))
            np.subtract.at(self._left, ours["row"][stands], 1)
        same = planned & (self._left == 0)
        held_by = np.full(len(same), -1, np.int32)
        for ours, theirs in self._pairs("called", _PLANNED, "named", _NAMED):
            stands, run = _found(ours, theirs, theirs["run"])
            np.maximum.at(held_by, ours["row"][stands], run[stands])
        changed = ~same & (held_by >= 0)
        runs, counts = np.unique(held_by[changed], return_counts=True)
        return Matched(same, changed, dict(zip(runs.tolist(), counts.tolist(), strict=True)))

    def _write(self, side: str, entries: NDArray[np.void]) -> None:
        target = (entries["high"] % PARTITIONS).astype(np.int64)
        order = np.argsort(target, kind="stable")
        ends = np.cumsum(np.bincount(target, minlength=PARTITIONS))
        try:
            for part, chunk in enumerate(np.split(entries[order], ends[:-1])):
                if len(chunk):
                    self._file(side, part).write(chunk.tobytes())
        except OSError as error:
            raise _full(error) from error

    def _pairs(
        self, ours: str, our_kind: np.dtype[np.void], theirs: str, their_kind: np.dtype[np.void]
    ) -> Iterator[tuple[NDArray[np.void], NDArray[np.void]]]:
        for part in range(PARTITIONS):
            yield self._read(ours, part, our_kind), self._read(theirs, part, their_kind)

    def _read(self, side: str, part: int, kind: np.dtype[np.void]) -> NDArray[np.void]:
        file = self._files.get((side, part))
        if file is None:
            return np.empty(0, kind)
        try:
            file.flush()
        except OSError as error:
            raise _full(error) from error
        file.seek(0)
        return np.frombuffer(file.read(), kind)

    def _file(self, side: str, part: int) -> IO[bytes]:
        if (side, part) not in self._files:
            opened = tempfile.TemporaryFile(buffering=BUFFER_BYTES)  # noqa: SIM115  # see close
            self._files[side, part] = self._open.enter_context(opened)
        return self._files[side, part]


def _full(error: OSError) -> StorageError:
    return StorageError(f"{tempfile.gettempdir()}: {error.strerror}, make room there or set TMPDIR")


def _numbered(hashes: Words, images: NDArray[np.int64]) -> Words:
    """Hashes that differ with the number of the picture too."""
    number = images.astype(np.uint64)[:, None]
    return hashes ^ (number * np.array(_SPREAD, np.uint64))


def _entries(
    kind: np.dtype[np.void], hashes: Words, **more: NDArray[np.int64] | int
) -> NDArray[np.void]:
    entries = np.empty(len(hashes), kind)
    entries["high"], entries["low"] = hashes[:, 0], hashes[:, 1]
    for name, values in more.items():
        entries[name] = values
    return entries


def _found(
    ours: NDArray[np.void], theirs: NDArray[np.void], run: NDArray[np.int32]
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Which of our entries are among theirs, and the highest run of those."""
    high = np.concatenate((ours["high"], theirs["high"]))
    low = np.concatenate((ours["low"], theirs["low"]))
    order = np.lexsort((low, high))
    high, low = high[order], low[order]
    begins = np.concatenate(([True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])))
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(begins[: len(order)]) - 1
    newest = np.full(len(order), -1, np.int32)
    np.maximum.at(newest, group[len(ours) :], run)
    found = newest[group[: len(ours)]]
    return found >= 0, found

"""Which rows of a manifest are equal, in bounded memory: an external hash partition.

Sixteen bytes of hash and eight of row number go to one of 64 temporary files, chosen by
the hash; equal rows meet in one file, and only one file is in memory at a time. That holds
for a hundred million rows, where a set of ids would not. The files have no name, so that
even a killed process leaves none behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sdbatch.closing import Closing
from sdbatch.errors import StorageError

PARTITIONS = 64
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("row", "<i8")])


class Repeats(Closing):
    """Collects a digest per row, then says which rows repeat an earlier one."""

    def __init__(self) -> None:
        self._files: dict[int, IO[bytes]] = {}

    def close(self) -> None:
        """Let go of what is open."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def add(self, digests: list[bytes], rows: NDArray[np.int64]) -> None:
        """Take in digests and their row numbers; call it in row order.

        Raises:
            StorageError: The folder for temporary files is full.
        """
        words = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)
        entries = np.empty(len(digests), dtype=_ENTRY)
        entries["high"], entries["low"] = words[:, 0], words[:, 1]
        entries["row"] = rows
        target = words[:, 0] % PARTITIONS
        order = np.argsort(target, kind="stable")
        ends = np.cumsum(np.bincount(target.astype(np.int64), minlength=PARTITIONS))
        try:
            for part, chunk in enumerate(np.split(entries[order], ends[:-1])):
                if len(chunk):
                    _write_all(self._file(part), chunk.tobytes())
        except OSError as error:
            raise StorageError(
                f"{tempfile.gettempdir()}: {error.strerror}, make room there or set TMPDIR"
            ) from error

    def found(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Rows that repeat an earlier one: (row, first equal row, how many equal rows precede).

        One triple of arrays per partition; over all partitions rows come in no order.
        """
        for _, file in sorted(self._files.items()):
            file.seek(0)
            yield _repeated(np.frombuffer(file.read(), dtype=_ENTRY))

    def _file(self, part: int) -> IO[bytes]:
        if part not in self._files:
            # Unbuffered: what a full disk refuses is refused here, not when the file is closed.
            self._files[part] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # see close
        return self._files[part]


def _write_all(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:  # an unbuffered file may take less than it is given
        view = view[file.write(view) :]


def _repeated(
    entries: NDArray[np.void],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    # The file is in row order, so a stable sort leaves equal rows in row order.
    entries = entries[np.lexsort((entries["low"], entries["high"]))]
    same = (entries["high"][1:] == entries["high"][:-1]) & (
        entries["low"][1:] == entries["low"][:-1]
    )
    place = np.arange(len(entries))
    starts = np.maximum.accumulate(np.where(np.concatenate(([False], same)), 0, place))
    rank = place - starts
    again = rank > 0
    return entries["row"][again], entries["row"][starts[again]], rank[again]

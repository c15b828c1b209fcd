"""Every problem of a manifest in a Parquet file, written while they are found.

The first twenty are for a person; this file is for whoever corrects the other million.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.errors import InputError, StorageError
from sdbatch.manifest.origin import Origin
from sdbatch.records import ManifestRef

PROBLEMS = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("value", pa.string()),
        ("message", pa.string()),
    ]
)
"""`row` counts from 0 over all files of the manifest, as messages do; -1 is a whole column."""
WRITTEN_TOGETHER = 16384


class FaultLog:
    """Collects problems; the file appears under its name when all are in it.

    Args:
        path: Where; `.partial` is added until it is whole. An empty file says: no problems.
        ref: The manifest, to name the file that a row lies in.
        origin: Where rows were before they were frozen; None where they were not.

    Raises:
        InputError: The folder is not there, or the path is a URL.
    """

    def __init__(self, path: str | Path, ref: ManifestRef, origin: Origin | None = None) -> None:
        self.path = Path(path)
        if "://" in str(path) or not self.path.absolute().parent.is_dir():
            raise InputError(f"--report {path}: name a file in a folder of this machine")
        self._name, self._origin = ref.name, origin
        self._urls = [file.url for file in ref.files]
        self._ends = list(accumulate(file.num_rows for file in ref.files))
        self._partial = self.path.with_name(f"{self.path.name}.partial")
        self._waiting: list[tuple[str, int, str, str, str]] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> FaultLog:
        try:
            self._writer = pq.ParquetWriter(self._partial, PROBLEMS, compression="zstd")
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
            if self._writer is not None:
                self._writer.close()
            if kind is None:
                os.replace(self._partial, self.path)
        except OSError as problem:
            raise StorageError(f"{self.path}: cannot be written: {problem}") from problem
        finally:
            self._partial.unlink(missing_ok=True)

    def add(self, row: int, column: str, value: str, message: str) -> None:
        """Take in one problem.

        Raises:
            StorageError: The disk is full.
        """
        self._waiting.append((self._file_of(row), row, column, value, message))
        if len(self._waiting) >= WRITTEN_TOGETHER:
            self._flush()

    def _file_of(self, row: int) -> str:
        if row < 0 or row >= self._ends[-1]:
            return self._name
        if self._origin is not None:
            return self._origin.file(row)
        return self._urls[bisect_right(self._ends, row)]

    def _flush(self) -> None:
        if not self._waiting or self._writer is None:
            return
        columns = zip(*self._waiting, strict=True)
        arrays = [pa.array(one, kind) for one, kind in zip(columns, PROBLEMS.types, strict=True)]
        self._waiting = []
        try:
            self._writer.write_table(pa.table(arrays, schema=PROBLEMS))
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written: {error}") from error

"""Every problem of a manifest in a Parquet file, written while they are found.

The first twenty are for a person; this file is for whoever corrects the other million.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from sdbatch.errors import InputError
from sdbatch.manifest.origin import Origin
from sdbatch.manifest.written import OutputFile
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
        path: Where; an older file is replaced. An empty file says: no problems.
        ref: The manifest, to name the file that a row lies in; None names none.
        origin: Where rows were before they were frozen; None where they were not.

    Raises:
        InputError: The folder is not there, or the path is a URL.
    """

    def __init__(
        self, path: str | Path, ref: ManifestRef | None = None, origin: Origin | None = None
    ) -> None:
        try:
            self._file = OutputFile(path, PROBLEMS, overwrite=True)
        except InputError as error:
            words = f"--report {path}: name a file in a folder of this machine"
            raise InputError(words) from error
        self._name, self._origin = ref.name if ref else "", origin
        self._urls = [file.url for file in ref.files] if ref else []
        self._ends = list(accumulate(file.num_rows for file in ref.files)) if ref else []
        self._waiting: list[tuple[str, int, str, str, str]] = []

    def __enter__(self) -> FaultLog:
        self._file.__enter__()
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
        except BaseException as problem:
            self._file.__exit__(type(problem), problem, None)
            raise
        self._file.__exit__(kind, error, trace)

    def add(self, row: int, column: str, value: str, message: str) -> None:
        """Take in one problem.

        Raises:
            StorageError: The disk is full.
        """
        self._waiting.append((self._file_of(row), row, column, value, message))
        if len(self._waiting) >= WRITTEN_TOGETHER:
            self._flush()

    def _file_of(self, row: int) -> str:
        if row < 0 or not self._ends or row >= self._ends[-1]:
            return self._name
        if self._origin is not None:
            return self._origin.file(row)
        return self._urls[bisect_right(self._ends, row)]

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = zip(*self._waiting, strict=True)
        arrays = [pa.array(one, kind) for one, kind in zip(columns, PROBLEMS.types, strict=True)]
        self._waiting = []
        self._file.add(pa.table(arrays, schema=PROBLEMS))

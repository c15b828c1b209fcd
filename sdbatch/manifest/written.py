"""Parquet files that a command writes: whole under their name, or not there at all.

Equal rows give equal bytes. A file grows under another name beside its place and is moved
there at the end, so that whoever is interrupted leaves no half file behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.errors import InputError, StorageError
from sdbatch.remote import is_url

ROW_GROUP_ROWS = 65536


class OutputFile:
    """A Parquet file under construction, in row groups of `ROW_GROUP_ROWS`.

    Args:
        path: Its name; the folder must be there.
        schema: Of all rows.
        overwrite: Whether a file of this name may be replaced.

    Attributes:
        num_rows: Added so far.

    Raises:
        InputError: The file is there already, its folder is not, or the path is a URL.
    """

    def __init__(self, path: str | Path, schema: pa.Schema, *, overwrite: bool = False) -> None:
        self.path, self.schema, self.num_rows = Path(path), schema, 0
        if is_url(str(path)):
            raise InputError(f"{path}: name a file of this machine")
        if self.path.is_dir() or not self.path.absolute().parent.is_dir():
            raise InputError(f"{path}: name a file in a folder that is there")
        if self.path.exists() and not overwrite:
            raise InputError(f"{path}: is there already, name another file or give --overwrite")
        self._growing = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        self._waiting: list[pa.Table] = []
        self._held = 0

    def __enter__(self) -> OutputFile:
        with _said(self.path):
            self._writer = pq.ParquetWriter(self._growing, self.schema, compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            with _said(self.path):
                if kind is None:
                    self._write(self._held)
                self._writer.close()
                if kind is None:
                    self._growing.replace(self.path)
        finally:
            with suppress(OSError):
                self._growing.unlink(missing_ok=True)

    def add(self, table: pa.Table) -> None:
        """Append rows.

        Raises:
            StorageError: The disk is full.
        """
        self._waiting.append(table)
        self._held += table.num_rows
        self.num_rows += table.num_rows
        if self._held >= ROW_GROUP_ROWS:
            with _said(self.path):
                self._write(self._held - self._held % ROW_GROUP_ROWS)

    def _write(self, rows: int) -> None:
        if not rows:
            return
        whole = pa.concat_tables(self._waiting)
        self._writer.write_table(whole.slice(0, rows), ROW_GROUP_ROWS)
        self._held -= rows
        self._waiting = [whole.slice(rows)] if self._held else []


def demand_parquet(path: str | Path) -> Path:
    """The path of a manifest that is to be written.

    Raises:
        InputError: It does not end in `.parquet`, or is a folder.
    """
    target = Path(path)
    if is_url(str(path)):
        raise InputError(f"{path}: write to a local path and copy the file from there")
    if target.suffix.lower() != ".parquet":
        raise InputError(f"{path}: must end in .parquet, the form manifests are written in")
    if target.is_dir():
        raise InputError(f"{path}: is a folder, name a file in it")
    return target


def write_manifest(path: str | Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Stream tables of one schema to a file, which is replaced if it exists; rows written.

    Folders on the way are made.

    Raises:
        InputError: The path cannot be that of a manifest.
        StorageError: The disk is full, or the folder cannot be written to.
    """
    target = demand_parquet(path)
    with _said(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with OutputFile(target, schema, overwrite=True) as file:
        for table in tables:
            file.add(table)
    return file.num_rows


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}") from error

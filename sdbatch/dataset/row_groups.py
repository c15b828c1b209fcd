"""A Parquet file written row by row, holding no more than one row group in memory.

Settings are those that every reader was tried with: picture bytes plain and
uncompressed (they are compressed already), everything else zstd; a page index and
content-defined chunks, so that Hub storage finds equal pictures in rewritten files;
no statistics of picture bytes, which would put whole pictures into the footer.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sdbatch.closing import Closing
from sdbatch.dataset.arrow_types import normal_type
from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.schema import CAPTION, IMAGE, LOW_CARDINALITY, class_names, role_of
from sdbatch.errors import SdbatchError

GROUP_BYTES = 32 * 2**20
"""Picture bytes of a row group; readers hold whole groups, viewers refuse above 286 MiB."""

GROUP_ROWS = 8192
"""Rows of a row group when pictures are small or absent."""

_CHUNKING = {"min_chunk_size": 262_144, "max_chunk_size": 1_048_576, "norm_level": 0}
_IMAGE_BYTES = f"{IMAGE.name}.bytes"


def picture_name(key: str, file_format: str) -> str:
    """What the file of a picture is called, in every layout."""
    return f"{key}.{file_format}"


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A finished local file, ready to be stored."""

    path: Path
    num_rows: int
    size_bytes: int
    sha256: str


class UserColumns:
    """The manifest's own columns of a shard, looked up by `row_index`.

    Args:
        table: Those columns and `row_index`; others are ignored.
        fields: Which columns, and the types they are stored as.

    Raises:
        SdbatchError: A column is missing or cannot become what the plan froze.
    """

    def __init__(self, table: pa.Table, fields: Iterable[pa.Field]) -> None:
        index = table["row_index"].to_numpy()
        self._order = np.argsort(index, kind="stable")
        self._sorted = index[self._order]
        self._columns = {field.name: _frozen(table, field) for field in fields}

    def take(self, row_indices: list[int]) -> dict[str, pa.ChunkedArray]:
        """Columns with one value per given row, repeats allowed.

        Raises:
            SdbatchError: A row is not in the table.
        """
        wanted = np.asarray(row_indices, dtype=np.int64)
        place = np.searchsorted(self._sorted, wanted)
        held = place < len(self._sorted)
        held[held] = self._sorted[place[held]] == wanted[held]
        if not held.all():
            raise SdbatchError(
                f"row {wanted[~held][0]} is not among the manifest rows of its shard"
            )
        order = pa.array(self._order[place], pa.int64())
        return {name: column.take(order) for name, column in self._columns.items()}


def _frozen(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    found = table.schema.get_field_index(field.name)
    if found < 0:
        raise SdbatchError(f"column '{field.name}': not among the columns of the manifest")
    column = table.column(found)
    if names := class_names(field):
        return _numbered(column, field.name, names)
    try:
        # Between a type and its normal form nothing is lost, and the unsafe cast cannot fail:
        # a rendered shard must not sink for one odd value. Anything else is cast with care.
        return column.cast(field.type, safe=normal_type(column.type, field.name) != field.type)
    except pa.ArrowException as error:
        raise SdbatchError(
            f"column '{field.name}': manifest holds {column.type}, the plan froze {field.type}"
        ) from error


def _numbered(column: pa.ChunkedArray, name: str, names: Sequence[str]) -> pa.ChunkedArray:
    """Classes by their numbers; a value that the plan did not see cannot be stored."""
    numbers = pc.index_in(column.cast(pa.string()), pa.array(names, pa.string()))
    if numbers.null_count != column.null_count:
        raise SdbatchError(f"column '{name}': holds a class that the plan did not find")
    return numbers.cast(pa.int64())


class RowFile(Closing):
    """A file in the making, written a row group at a time; as a context manager it closes.

    Args:
        path: Local file, replaced if it exists.
        schema: Columns of its rows.
        user: Where columns that rows do not bring come from.

    Raises:
        StorageError: From every method: the disk is full or the path cannot be used.
    """

    def __init__(self, path: Path, schema: pa.Schema, user: UserColumns | None = None) -> None:
        self._path, self._schema, self._user = path, schema, user
        self._rows: list[Mapping[str, Any]] = []
        self._images: list[bytes | None] = []
        self._bytes = 0
        self._num_rows = 0

    @abstractmethod
    def _write(self, table: pa.Table) -> None:
        """Append the rows of a group."""

    @abstractmethod
    def _close(self) -> None:
        """End the file; may be repeated."""

    def close(self) -> None:
        """Let go of what is open."""
        with local_disk(self._path):
            self._close()

    def add(self, columns: Mapping[str, Any], data: bytes | None) -> None:
        """Append a row: values of our columns, and the encoded picture if there is one."""
        size = len(data or b"")
        if self._rows and (self._bytes + size > GROUP_BYTES or len(self._rows) >= GROUP_ROWS):
            self._flush()
        self._rows.append(columns)
        self._images.append(data)
        self._bytes += size

    def finish(self) -> ShardFile:
        """Write what is left and close; the file stands as described."""
        if self._rows:
            self._flush()
        with local_disk(self._path):
            self._close()
            with self._path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return ShardFile(self._path, self._num_rows, self._path.stat().st_size, digest)

    def _flush(self) -> None:
        user = self._user.take([row["row_index"] for row in self._rows]) if self._user else {}
        arrays = [
            user[field.name] if field.name in user else self._array(field) for field in self._schema
        ]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        with local_disk(self._path):
            self._write(table)
        self._num_rows += len(table)
        self._rows, self._images, self._bytes = [], [], 0

    def _array(self, field: pa.Field) -> pa.Array:
        if field != IMAGE:
            name = "prompt" if role_of(field) == CAPTION else field.name
            return pa.array([row.get(name) for row in self._rows], field.type)
        names = [
            None if data is None else picture_name(row["key"], row["format"])
            for row, data in zip(self._rows, self._images, strict=True)
        ]
        return pa.StructArray.from_arrays(
            [pa.array(self._images, pa.binary()), pa.array(names, pa.string())],
            fields=list(field.type),
            mask=pa.array([data is None for data in self._images]),
        )


class RowGroupFile(RowFile):
    """A Parquet file in the making.

    Args:
        path: Local file, replaced if it exists.
        schema: Columns to write.
        user: Where columns that rows do not bring come from.
        footer: Facts for the footer, under the key `sdbatch`.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        user: UserColumns | None = None,
        footer: Mapping[str, str] | None = None,
    ) -> None:
        notes = {"content_defined_chunking": json.dumps(_CHUNKING)}
        if footer is not None:
            notes["sdbatch"] = json.dumps(dict(footer))
        schema = schema.with_metadata({**(schema.metadata or {}), **notes})
        super().__init__(path, schema, user)
        with local_disk(path):
            self._writer = pq.ParquetWriter(path, schema, **parquet_settings(schema))

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=len(table))

    def _close(self) -> None:
        self._writer.close()


def parquet_settings(schema: pa.Schema) -> dict[str, Any]:
    """How files of this schema are written: options of `pyarrow.parquet.ParquetWriter`."""
    leaves = _leaves(schema)
    return {
        "compression": {leaf: "none" if leaf == _IMAGE_BYTES else "zstd" for leaf in leaves},
        "use_dictionary": [leaf for leaf in leaves if leaf in LOW_CARDINALITY],
        "column_encoding": {leaf: "PLAIN" for leaf in leaves if leaf == _IMAGE_BYTES},
        "write_statistics": [leaf for leaf in leaves if leaf != _IMAGE_BYTES],
        "write_page_index": True,
        "store_schema": True,
        "use_content_defined_chunking": _CHUNKING,
    }


def _leaves(schema: pa.Schema) -> list[str]:
    """Paths of Parquet's flat columns; only Parquet itself knows how nested ones are called."""
    sink = pa.BufferOutputStream()
    pq.ParquetWriter(sink, schema).close()
    flat = pq.ParquetFile(pa.BufferReader(sink.getvalue()), pre_buffer=False).schema
    return [flat.column(index).path for index in range(len(flat))]

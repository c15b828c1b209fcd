"""The rows of a dataset as its standing records have them, whatever its layout.

What makes another form of a dataset (export, report, scores) reads it here: shard by shard,
files of lost attempts unseen, and in memory no more than one row group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.layouts import PARQUET
from sdbatch.dataset.row_groups import picture_name
from sdbatch.dataset.schema import IMAGE
from sdbatch.engine.shard_pictures import layout_of, pictures_of, wanted
from sdbatch.errors import DamagedError, InputError
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.store import Store

KEYS = ["key", "format"]
BATCH_ROWS = 1024
PICTURE_ROWS = 64
"""Rows of a batch, without and with pictures."""


def committed_rows(
    store: Store,
    run: str = layout.MAIN,
    columns: Sequence[str] | None = None,
    pictures: bool = False,
    kind: str = "data",
) -> Iterator[pa.RecordBatch]:
    """Rows of all committed shards of a run, in shard order and within a shard in row order.

    Where all pictures share one size that is the order of the manifest.

    Args:
        columns: Names of columns, in the order wanted; None for all.
        pictures: Add the column `image`, a struct of `bytes` and `path`.
        kind: `data`, `errors` or `filtered`: rows by their end.

    Raises:
        InputError: A column is not there, or errors were asked for with pictures.
        DamagedError: A record, or a file that a record names, cannot be read.
    """
    for record in RunFolder(store, run).records():
        yield from shard_rows(store, record, columns, pictures, kind)


def shard_rows(
    store: Store,
    record: CommitRecord,
    columns: Sequence[str] | None = None,
    pictures: bool = False,
    kind: str = "data",
) -> Iterator[pa.RecordBatch]:
    """Rows of one committed shard; see `committed_rows`.

    A shard without such rows yields nothing.
    """
    if kind == "errors" and pictures:
        raise InputError("errors: pictures that failed have no picture")
    if kind == "data" and pictures and layout_of(record.result.data.key) != PARQUET:
        yield from _joined(store, record, columns)
        return
    lean = "metadata" if kind == "data" and not pictures else kind
    for of, file in record.files:
        if of == lean:
            yield from _batches(store, file, columns, pictures)


def _joined(
    store: Store, record: CommitRecord, columns: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """Rows of `metadata/`, each with its picture from a tar or a file of its own."""
    data, metadata = record.result.data, record.result.metadata
    names = None if columns is None else [name for name in columns if name != IMAGE.name]
    needed = None if names is None else [*names, *KEYS]
    keys = (row for batch in _batches(store, metadata, KEYS) for row in wanted(batch.to_pylist()))
    pictures = pictures_of(store, data.key, keys)
    for batch in _batches(store, metadata, needed):
        for first in range(0, batch.num_rows, PICTURE_ROWS):
            part = batch.slice(first, PICTURE_ROWS)
            found = _struct(store, data, part, list(islice(pictures, part.num_rows)))
            order = part.schema.names if columns is None else columns
            yield _with_picture(part, found, dict.fromkeys((*order, IMAGE.name)))


def _with_picture(
    rows: pa.RecordBatch, pictures: pa.StructArray, names: Iterable[str]
) -> pa.RecordBatch:
    """Some columns of rows, with the pictures as one more."""
    places = {field.name: (field, rows.column(field.name)) for field in rows.schema}
    places[IMAGE.name] = (IMAGE, pictures)
    fields, arrays = zip(*(places[name] for name in names), strict=True)
    return pa.RecordBatch.from_arrays(list(arrays), schema=pa.schema(fields))


def _struct(
    store: Store, data: DataFile, rows: pa.RecordBatch, pictures: Sequence[bytes | None]
) -> pa.StructArray:
    keys, formats = (rows.column(name).to_pylist() for name in KEYS)
    if len(pictures) < len(keys) or None in pictures:
        missing = [*pictures, None].index(None)
        raise DamagedError(store.join(data.key), f"picture {keys[missing]} is not there")
    paths = [picture_name(key, ending) for key, ending in zip(keys, formats, strict=True)]
    values = [pa.array(pictures, pa.binary()), pa.array(paths, pa.string())]
    return pa.StructArray.from_arrays(values, fields=list(IMAGE.type))


def _batches(
    store: Store, file: DataFile, columns: Sequence[str] | None, pictures: bool = False
) -> Iterator[pa.RecordBatch]:
    """Batches of one Parquet file, read row group by row group."""
    size = PICTURE_ROWS if pictures else BATCH_ROWS
    try:
        # Read ahead, Arrow would hold the whole file.
        with store.open(file.key) as source, pq.ParquetFile(source, pre_buffer=False) as opened:
            names = _names(opened.schema_arrow, columns, pictures)
            for group in range(opened.num_row_groups):
                for batch in opened.iter_batches(size, [group], names, use_threads=False):
                    yield batch.select(names)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(store.join(file.key), f"cannot be read ({error})") from error


def _names(schema: pa.Schema, columns: Sequence[str] | None, pictures: bool) -> list[str]:
    if columns is None:
        names = [name for name in schema.names if name != IMAGE.name]
    else:
        names = list(dict.fromkeys(columns))
        for name in names:
            if name not in schema.names:
                raise InputError(
                    f"column '{name}': is not here, there are {', '.join(schema.names)}"
                )
    return [*names, IMAGE.name] if pictures and IMAGE.name not in names else names

"""What workers read: prompts and tables of any origin, frozen to Parquet.

Lines of text, lists of dicts, pandas frames, Hugging Face datasets and Parquet with huge row
groups all become one deterministic file with small row groups. Neither pandas nor datasets
is imported: an object that comes in brings its own library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sdbatch.errors import ManifestError, StorageError
from sdbatch.manifest.reader import Manifest, Storage, iter_tables
from sdbatch.manifest.schema import is_text

MAX_ROW_GROUP_ROWS = 131072
"""Parquet with row groups up to this is read in place."""
FROZEN_ROW_GROUP_ROWS = 65536
TABLE_NAME = "table"


def needs_freezing(manifest: Manifest) -> bool:
    """Whether row groups are so large that every worker would read far more than it needs."""
    return manifest.max_row_group_rows > MAX_ROW_GROUP_ROWS


def prompts_table(prompts: Iterable[str], name: str = "prompts") -> pa.Table:
    """A manifest of prompts alone, one a row; line ends are cut, blank lines left out.

    Raises:
        ManifestError: No prompt is left, or one is no valid text.
    """
    texts = []
    for line, prompt in enumerate(prompts, 1):
        if not isinstance(prompt, str):
            reason = f"{type(prompt).__name__} is no prompt, give a text"
            raise ManifestError(name, line - 1, "prompt", "", reason)
        # Bytes that are no UTF-8 come from standard input as lone surrogates.
        if not _is_utf8(prompt):
            reason = f"line {line} is not UTF-8 text, re-encode it"
            raise ManifestError(name, -1, "prompt", "", reason)
        if prompt.strip():
            texts.append(prompt.rstrip("\r\n"))
    if not texts:
        raise ManifestError(name, -1, "", "", "no prompt in it, give at least one")
    return pa.table({"prompt": _column(name, "prompt", texts)})


def as_table(source: Any, name: str = TABLE_NAME) -> pa.Table:
    """Any table a person may hold, as an Arrow table.

    Args:
        source: An Arrow table, a pandas or polars frame, a Hugging Face dataset, a dict of
            columns, or an iterable of dicts (or of prompts).
        name: What messages call it.

    Raises:
        ManifestError: It is no table, it is empty, or a column mixes types.
    """
    table = _convert(source, name)
    if table.num_rows == 0:
        raise ManifestError(name, -1, "", "", "holds no rows, a manifest needs at least one")
    return table.replace_schema_metadata()


def write_frozen(
    source: pa.Table | Manifest,
    path: str | Path,
    row_group_rows: int = FROZEN_ROW_GROUP_ROWS,
    storage: Storage = None,
) -> None:
    """Write a local Parquet file: the same rows give the same bytes.

    Args:
        source: A table, or an opened manifest, which is streamed.
        path: The file; it is overwritten.
        row_group_rows: Rows of each row group but the last.
        storage: fsspec options of the manifest's file system.

    Raises:
        ManifestError: The manifest cannot be read, or changed meanwhile.
        StorageError: The disk is full.
    """
    if isinstance(source, Manifest):
        # As the files have it: the view of a manifest stays true of its frozen copy.
        schema = source.file_schema or source.schema
        tables = iter_tables(replace(source.ref, view=()), storage=storage)
    else:
        schema, tables = source.schema.remove_metadata(), iter([source.replace_schema_metadata()])
    write_tables(schema, tables, path, row_group_rows)


def write_tables(
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    path: str | Path,
    row_group_rows: int = FROZEN_ROW_GROUP_ROWS,
) -> None:
    """Stream tables of one schema into a local Parquet file with row groups of equal size.

    Raises:
        StorageError: The disk is full.
    """
    try:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for group in _even(tables, row_group_rows):
                writer.write_table(group.cast(schema), row_group_rows)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error}") from error


def content_identity(table: pa.Table) -> str:
    """Hash over names, types and all values of a table, however it is chunked."""
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(json.dumps([name, str(column.type), len(column)]).encode())
        for piece in _value_bytes(column):
            digest.update(piece)
    return digest.hexdigest()


def is_table(source: Any) -> bool:
    """Whether this is one table in itself, not an iterable of rows."""
    if isinstance(source, pa.Table) or hasattr(source, "iloc"):
        return True
    return _is_dataset(source) or hasattr(source, "__arrow_c_stream__")


def _is_dataset(source: Any) -> bool:
    """Whether this is a Hugging Face dataset that can be read whole."""
    return hasattr(source, "with_format") and hasattr(source, "num_rows")


def demand_one_split(name: str, source: Mapping[Any, Any]) -> None:
    """Refuse a mapping of tables; in a mapping of columns no value has columns itself.

    Raises:
        ManifestError: A value is a table.
    """
    split = [
        str(key)
        for key, value in source.items()
        if hasattr(value, "column_names") or hasattr(value, "columns")
    ]
    if split:
        reason = f"choose a split: it holds {', '.join(split)}; give for example data['{split[0]}']"
        raise ManifestError(name, -1, "", "", reason)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _convert(source: Any, name: str) -> pa.Table:
    try:
        if isinstance(source, pa.Table):
            return source
        if isinstance(source, Mapping):
            # First, because a Hugging Face mapping of splits has the methods of a dataset too.
            demand_one_split(name, source)
            return _from_columns(name, source)
        if hasattr(source, "iloc"):  # pandas; its Arrow export would add the index as a column
            return pa.Table.from_pandas(source, preserve_index=False)
        if _is_dataset(source):
            return source.with_format("arrow")[:]
        if hasattr(source, "__arrow_c_stream__"):
            return pa.table(source)
        if isinstance(source, Iterable) and not isinstance(source, str | bytes):
            return _from_rows(name, list(source))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ManifestError(name, -1, "", "", " ".join(str(error).split())) from error
    kinds = "a list of dicts, an Arrow or pandas table, or a Hugging Face dataset"
    raise ManifestError(name, -1, "", "", f"{type(source).__name__} is no table, give {kinds}")


def _from_rows(name: str, rows: list[Any]) -> pa.Table:
    if rows and all(isinstance(row, str) for row in rows):
        return prompts_table(rows, name)
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            reason = f"{type(row).__name__} is no row, give a dict such as {{'prompt': 'a fox'}}"
            raise ManifestError(name, index, "", "", reason)
    names = dict.fromkeys(str(column) for row in rows for column in row)
    return _from_columns(name, {column: [row.get(column) for row in rows] for column in names})


def _from_columns(name: str, columns: Mapping[Any, Any]) -> pa.Table:
    arrays = {
        str(column): _column(name, str(column), column_values)
        for column, column_values in columns.items()
    }
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise ManifestError(name, -1, "", "", f"columns of different lengths: {sorted(lengths)}")
    return pa.table(arrays)


def _column(manifest: str, name: str, values: Any) -> pa.Array:
    if name in ("scheduler_config", "micro_conditioning"):
        values = [json.dumps(value) if isinstance(value, Mapping) else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError) as error:
        reason = f"values of one column need one type: {' '.join(str(error).split())}"
        raise ManifestError(manifest, -1, name, "", reason) from error


def _even(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `rows`, but the last."""
    waiting: list[pa.Table] = []
    held = 0
    for table in tables:
        waiting.append(table)
        held += table.num_rows
        while held >= rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, rows)
            waiting, held = [joined.slice(rows)], held - rows
    if held:
        yield pa.concat_tables(waiting)


def _value_bytes(column: pa.ChunkedArray) -> Iterator[bytes]:
    known = pc.is_valid(column).to_numpy()
    yield np.packbits(known).tobytes()
    kind = column.type
    if is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        plain = column.cast(pa.large_string() if is_text(kind) else pa.large_binary())
        plain = pc.fill_null(plain.cast(pa.large_binary()), b"")
        yield pc.binary_length(plain).to_numpy().tobytes()
        for chunk in plain.chunks:
            yield b"".join(chunk.to_pylist())
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield pc.fill_null(column, pa.scalar(0, kind)).to_numpy().tobytes()
    else:
        yield json.dumps(column.to_pylist(), default=str, sort_keys=True).encode()

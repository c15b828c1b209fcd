"""`metadata.parquet`: one table of all rows beside loose pictures, by which readers find them.

It follows from the success records of all finished runs and is written again whenever one of
them ends, before files that no record names any more are collected: what it names is there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.files import FILE_NAME, table_schema
from sdbatch.dataset.layouts import FILES
from sdbatch.dataset.row_groups import parquet_settings, picture_name
from sdbatch.dataset.schema import schema_from_bytes
from sdbatch.engine.job_folder import StoredJob
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.runs import finished_runs
from sdbatch.storage.store import Store

TABLE_KEY = "metadata.parquet"


class TableFacts(NamedTuple):
    """What the table holds.

    Attributes:
        rows: Pictures of all finished runs.
        size_bytes: Of all of them.
    """

    rows: int
    size_bytes: int


def picture_table(store: Store, job: StoredJob) -> TableFacts | None:
    """Write the table of all finished runs; None where the layout has none.

    Memory stays at one row group.

    Args:
        store: The output.
        job: A run of it; all have the same columns.

    Raises:
        StorageError: Store or local disk failed.
        DamagedError: A file that a success record names cannot be read.
    """
    if job.spec.output_spec.format != FILES:
        return None
    schema = table_schema(schema_from_bytes(store.get(job.spec.schema_key)))
    rows = size_bytes = 0
    with tempfile.TemporaryDirectory(prefix="sdbatch-table-") as folder:
        path = Path(folder) / TABLE_KEY
        with pq.ParquetWriter(path, schema, **parquet_settings(schema)) as writer:
            for table in _tables(store, schema):
                writer.write_table(table, row_group_size=max(1, len(table)))
                rows += len(table)
                size_bytes += sum(table["image_bytes"].to_pylist())
        store.put_file(TABLE_KEY, path)
    return TableFacts(rows, size_bytes)


def _tables(store: Store, schema: pa.Schema) -> Iterator[pa.Table]:
    for run, number in finished_runs(store).items():
        success = RunFolder(store, run).success(number) or {}
        for data, metadata in _shards(success):
            folder = data.removesuffix(layout.INDEX_NAME)
            with store.open(metadata) as source, pq.ParquetFile(source, pre_buffer=False) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, use_threads=False)
                    yield _named(table, folder).select(schema.names).cast(schema)


def _shards(success: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(data, metadata) of each shard, in shard order."""
    keys: dict[int, dict[str, str]] = {}
    for file in success["files"]:
        keys.setdefault(int(file["shard_id"]), {})[str(file["kind"])] = str(file["key"])
    for shard_id in sorted(keys):
        yield keys[shard_id]["data"], keys[shard_id]["metadata"]


def _named(rows: pa.Table, folder: str) -> pa.Table:
    keys, formats = rows["key"].to_pylist(), rows["format"].to_pylist()
    names = [f"{folder}{picture_name(key, kind)}" for key, kind in zip(keys, formats, strict=True)]
    return rows.append_column(FILE_NAME, pa.array(names, FILE_NAME.type))

"""A Parquet file of Arrow batches, holding no more than one row group in memory.

Written with the settings of the dataset's own files (`dataset/row_groups.py`), so that an
exported file opens wherever those do.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.closing import Closing
from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.row_groups import GROUP_BYTES, GROUP_ROWS, ShardFile, parquet_settings


class TableFile(Closing):
    """A Parquet file in the making; leaving it as a context manager closes it.

    Args:
        path: Local file, replaced if it exists.
        schema: Of every batch.

    Raises:
        StorageError: From every method: the disk is full or the path cannot be used.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        settings = parquet_settings(schema)
        notes = {"content_defined_chunking": json.dumps(settings["use_content_defined_chunking"])}
        self._path = path
        self._schema = schema.with_metadata({**(schema.metadata or {}), **notes})
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._bytes = self._num_rows = 0
        with local_disk(path):
            self._writer = pq.ParquetWriter(path, self._schema, **settings)

    def close(self) -> None:
        """Let go of what is open."""
        with local_disk(self._path):
            self._writer.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows; columns are taken by name."""
        size = batch.nbytes
        if size > GROUP_BYTES and batch.num_rows > 1:  # readers hold whole groups
            half = batch.num_rows // 2
            self.add(batch.slice(0, half))
            self.add(batch.slice(half))
            return
        if self._rows and (self._bytes + size > GROUP_BYTES or self._rows >= GROUP_ROWS):
            self._flush()
        self._waiting.append(batch.select(self._schema.names))
        self._rows += batch.num_rows
        self._bytes += size

    def finish(self) -> ShardFile:
        """Write what is left and close; the file stands as described."""
        if self._rows:
            self._flush()
        with local_disk(self._path):
            self._writer.close()
            with self._path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return ShardFile(self._path, self._num_rows, self._path.stat().st_size, digest)

    def _flush(self) -> None:
        table = pa.Table.from_batches(
            [pa.RecordBatch.from_arrays(one.columns, schema=self._schema) for one in self._waiting]
        )
        with local_disk(self._path):
            self._writer.write_table(table, row_group_size=len(table))
        self._num_rows += len(table)
        self._waiting, self._rows, self._bytes = [], 0, 0

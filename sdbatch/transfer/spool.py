"""Rows of one output file on local disk, until they can be written in a random order.

Rows come in the order of the dataset and leave in that of their ranks. The file is Arrow's
own, mapped into memory: what is read of it are pages of the disk, not memory of the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.row_groups import GROUP_BYTES

_RANK, _NAME = "__sdbatch_rank", "__sdbatch_name"
_BATCH_ROWS = 64


class OrderSpool:
    """Takes rows in any order, gives them back by rank.

    Args:
        path: Local file, replaced if it exists.
        schema: Of the rows.

    Raises:
        StorageError: From every method: the disk is full or the path cannot be used.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        own = [pa.field(_RANK, pa.int64()), pa.field(_NAME, pa.string())]
        self._schema = pa.schema([*schema, *own])
        with local_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pa.ipc.new_file(str(path), self._schema)

    def add(self, rows: pa.RecordBatch, names: Sequence[str], ranks: Sequence[int]) -> None:
        """Append rows."""
        columns = [*rows.columns, pa.array(ranks, pa.int64()), pa.array(names, pa.string())]
        with local_disk(self._path):
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def ordered(self) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
        """The rows by rank, with their names; the file is gone afterwards."""
        with local_disk(self._path):
            self._writer.close()
            source = pa.memory_map(str(self._path))
        with source:
            yield from self._by_rank(pa.ipc.open_file(source))
        self.close()

    def close(self) -> None:
        """Remove the file."""
        with local_disk(self._path):
            self._writer.close()
            self._path.unlink(missing_ok=True)

    def _by_rank(
        self, file: pa.RecordBatchFileReader
    ) -> Iterator[tuple[pa.RecordBatch, list[str]]]:
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        ranks = [batch.column(_RANK).to_numpy() for batch in batches]
        order = np.argsort(np.concatenate(ranks), kind="stable") if ranks else np.empty(0, int)
        ends = np.cumsum([len(one) for one in ranks])
        size = sum(batch.nbytes for batch in batches)
        step = max(1, min(_BATCH_ROWS, len(order) * GROUP_BYTES // max(size, 1)))
        for first in range(0, len(order), step):
            rows = []
            for at in order[first : first + step].tolist():
                number = int(np.searchsorted(ends, at, side="right"))
                batch = batches[number]
                rows.append(batch.slice(at - int(ends[number]) + batch.num_rows, 1))
            taken = pa.Table.from_batches(rows).combine_chunks().to_batches()[0]
            yield taken.drop_columns([_RANK, _NAME]), taken.column(_NAME).to_pylist()

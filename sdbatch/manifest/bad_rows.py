"""Rows that cannot be drawn and shall fail instead of ending the run (`--bad-rows fail`).

A check finds what is wrong cell by cell. Cells that no rule accepts are emptied, so that such
a row still has a size and a number of pictures: those of a row that does not say. Each of
these pictures fails with what the check said, and counts add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.texts import broken_texts

Mask = NDArray[np.bool_]
CELLS = pa.schema([("row_index", pa.int64()), ("column", pa.string()), ("message", pa.string())])
SAID = ("id", "prompt", "negative_prompt")
"""Columns by which a person finds a row again; a failed row keeps them as they are."""
_SORTED = [("row_index", "ascending"), ("column", "ascending"), ("message", "ascending")]


@dataclass(frozen=True)
class BadRows:
    """Cells of a manifest that no rule accepts.

    Attributes:
        cells: One row a cell, by `row_index`: its column, and the message of its row.
    """

    cells: pa.Table

    @property
    def num_rows(self) -> int:
        """Rows that hold such a cell."""
        return int(pc.count_distinct(self.cells["row_index"]).as_py())

    def between(self, first: int, end: int) -> BadRows:
        """Those of rows `[first, end)`."""
        rows = self.cells["row_index"].to_numpy()
        low, high = np.searchsorted(rows, (first, end)).tolist()
        return BadRows(self.cells.slice(low, high - low))

    def mend(self, table: pa.Table, row_indices: NDArray[np.int64]) -> pa.Table:
        """Rows of the manifest with these cells empty.

        Args:
            table: Rows as they stand, any of the columns.
            row_indices: Position of each of them in the manifest.
        """
        rows = self.cells["row_index"].to_numpy()
        columns = self.cells["column"].to_pylist()
        masks: dict[str, Mask] = {}
        for name in set(columns) & set(table.column_names):
            here = np.array([column == name for column in columns], np.bool_)
            masks[name] = np.isin(row_indices, rows[here])
        return emptied(table, masks)

    def messages(self) -> dict[int, str]:
        """Row position to everything that is wrong with the row, in one line."""
        found: dict[int, str] = {}
        rows, messages = self.cells["row_index"].to_pylist(), self.cells["message"].to_pylist()
        for row, message in zip(rows, messages, strict=True):
            found[row] = f"{found[row]}; {message}" if row in found else message
        return found


def bad_rows_of(problems: pa.Table) -> BadRows:
    """What a `FaultLog` wrote, as bad rows: equal problems give an equal table.

    Raises:
        ManifestError: A problem is one of a column or a file, not of a row.
    """
    whole = problems.filter(pc.less(problems["row"], 0))
    if whole.num_rows:
        one = whole.to_pylist()[0]
        raise ManifestError(one["file"], -1, one["column"], one["value"], one["message"])
    messages = [
        f"column '{column}': {value}: {said}" if value else f"column '{column}': {said}"
        for column, value, said in zip(
            *(problems[name].to_pylist() for name in ("column", "value", "message")), strict=True
        )
    ]
    columns = [problems["row"], problems["column"], pa.array(messages, pa.string())]
    return BadRows(pa.table(columns, schema=CELLS).sort_by(_SORTED).combine_chunks())


def emptied(table: pa.Table, masks: Mapping[str, Mask]) -> pa.Table:
    """A table with the marked cells null; what names a row stays, unless it is no text."""
    for name, mask in masks.items():
        if name not in table.column_names:
            continue
        column = table.column(name)
        marked = mask & broken_texts(column) if name in SAID else mask
        if not marked.any():
            continue
        # Taking knows every type; choosing between a value and null does not.
        places = pa.array(np.arange(len(column)), mask=marked)
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), column.take(places))
    return table


def read_bad_rows(source: IO[bytes], first: int, end: int) -> BadRows:
    """The bad rows of `[first, end)` out of a stored table; the rest of it is not read."""
    file = pq.ParquetFile(source, pre_buffer=False)
    place = file.schema_arrow.names.index("row_index")
    groups = []
    for group in range(file.num_row_groups):
        known = file.metadata.row_group(group).column(place).statistics
        if known is None or (known.min < end and known.max >= first):
            groups.append(group)
    return BadRows(file.read_row_groups(groups, use_threads=False)).between(first, end)

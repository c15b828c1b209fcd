"""Cells that could not be read as what their column holds: `abc` steps, a size of `10x`.

In a manifest of texts such a cell is found while the rows are frozen, which go on without it;
in Parquet it is found where a text is divided into its parts. Either way it is a fault of its
row like any other, told by the check with the text that stands there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.errors import ManifestRowsError
from sdbatch.manifest.faults import Faults, always
from sdbatch.manifest.reader import Manifest
from sdbatch.manifest.texts import broken_texts
from sdbatch.manifest.view import part_words, without_part
from sdbatch.records import ColumnView, ManifestRef

_SHOWN = 20
_AS_IT_STANDS = "\0as it stands"


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A stored column whose values hold parts.

    Attributes:
        stored: As the files call it.
        part: The part that a value must have.
        shown: The name under which a table shows it as it stands.
    """

    stored: str
    part: str
    shown: str


def demand_read(manifest: Manifest, num_rows: int | None = None) -> None:
    """Refuse a frozen manifest whose rows stand without a cell.

    Args:
        manifest: As it was opened.
        num_rows: Rows that count; None for all.

    Raises:
        ManifestError: One such cell is there.
        ManifestRowsError: Several are.
    """
    end = manifest.ref.num_rows if num_rows is None else num_rows
    total, first = 0, Faults(manifest.ref.name)
    for row, column, value, message in unread_cells(manifest.unread, end):
        total += 1
        first.mark_cell(row, column, value, message)
    if not total:
        return
    place = manifest.origin.placed if manifest.origin else lambda problem: problem
    problems = tuple(place(problem) for problem in first.first())
    if total == 1:
        raise problems[0]
    raise ManifestRowsError(problems, total)


def unread_cells(path: Path | None, end: int) -> Iterator[tuple[int, str, str, str]]:
    """(row, column, value, message) of every cell that freezing could not read, before a row."""
    if path is None:
        return
    for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(use_threads=False):
        columns = (batch.column(name).to_pylist() for name in ("row", "column", "value", "message"))
        for cell in zip(*columns, strict=True):
            if cell[0] < end:
                yield cell


def with_sources(ref: ManifestRef) -> tuple[ManifestRef, tuple[SourceColumn, ...]]:
    """The same rows, with every stored column beside its parts as it stands."""
    found: dict[str, SourceColumn] = {}
    for view in ref.view:
        if view.part:
            name = f"{view.stored}{_AS_IT_STANDS}"
            found.setdefault(view.stored, SourceColumn(view.stored, view.part, name))
    extra = [ColumnView(one.shown, one.stored, canonical=False) for one in found.values()]
    return replace(ref, view=(*ref.view, *extra)), tuple(found.values())


def mark_parts(
    table: pa.Table, first_row: int, faults: Faults, sources: Sequence[SourceColumn]
) -> None:
    """Mark every value that cannot be divided into its parts."""
    for one in sources:
        column = table.column(one.shown)
        broken = broken_texts(column)
        if broken.any():  # such a value cannot be shown
            column = column.take(pa.array(np.arange(len(column)), mask=broken))
        wrong = without_part(column, one.part) | broken
        faults.mark(wrong, first_row, one.stored, column, always(part_words(one.part)))

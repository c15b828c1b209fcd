"""Rows as sdbatch reads them: other tools' columns under canonical names.

The files of a manifest are never rewritten for a name. What is read from them is renamed
on the way, by the same view in the plan, in the checks and in every worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.aliases import HEIGHT, ONE_BASED, WIDTH, match_columns
from sdbatch.manifest.schema import CANONICAL, LATER
from sdbatch.records import ColumnView, ManifestRef

_SIZE = r"^\s*(?P<width>[0-9]{1,6})\s*[xX*\x{D7}]\s*(?P<height>[0-9]{1,6})\s*$"
_NO_PART = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError)
_KINDS = {WIDTH: pa.int32(), HEIGHT: pa.int32(), ONE_BASED: pa.int64()}


def view_of(
    manifest: str, schema: pa.Schema, *, keep_source_columns: bool = False, prefix: str = ""
) -> tuple[ColumnView, ...]:
    """The columns that rows of these files have.

    Args:
        manifest: Its name, for messages.
        schema: Arrow schema of the files.
        keep_source_columns: Let columns that are read under another name pass through too.
        prefix: Begins the name of every column that passes through.

    Raises:
        ManifestError: A name stands twice, or two columns claim one canonical name.
    """
    matched = match_columns(manifest, schema.names, {*CANONICAL, *LATER})
    passing = set(matched.rest)
    if keep_source_columns:
        passing |= {view.stored for view in matched.views if view.stored != view.name}
    views = list(matched.views)
    views += [
        ColumnView(f"{prefix}{name}", name, canonical=False)
        for name in schema.names
        if name in passing
    ]
    names = [view.name for view in views]
    for view in views:
        if names.count(view.name) > 1:
            reason = f"stands beside a column '{view.name}', choose another --passthrough-prefix"
            raise ManifestError(manifest, -1, view.stored, "", reason)
    order = {name: place for place, name in enumerate(schema.names)}
    return tuple(sorted(views, key=lambda view: order[view.stored]))


def shown_schema(schema: pa.Schema, view: Sequence[ColumnView]) -> pa.Schema:
    """The schema of rows under a view of files with `schema`."""
    return pa.schema(
        [(one.name, _KINDS.get(one.part) or schema.field(one.stored).type) for one in view]
    )


def stored_columns(view: Sequence[ColumnView], columns: Sequence[str] | None) -> list[str] | None:
    """The columns of the files that hold these columns of rows; None for all."""
    if not view:
        return None if columns is None else list(columns)
    if columns is None:
        return list(dict.fromkeys(one.stored for one in view))
    by_name = {one.name: one.stored for one in view}
    return list(dict.fromkeys(by_name.get(name, name) for name in columns))


def shown_table(
    ref: ManifestRef,
    table: pa.Table,
    columns: Sequence[str] | None,
    first_row: int,
    *,
    lenient: bool = False,
) -> pa.Table:
    """Rows of the files as the manifest shows them.

    Args:
        ref: The manifest.
        table: Rows with the columns that `stored_columns` names.
        columns: Columns to show, in order; None for all.
        first_row: Position of the first row in the manifest.
        lenient: Show a value that cannot be divided into its parts as null.

    Raises:
        ManifestError: A value cannot be divided into its parts.
    """
    if not ref.view:
        return table if columns is None else table.select(list(columns))
    by_name = {one.name: one for one in ref.view}
    names = list(by_name) if columns is None else list(columns)
    shown = []
    for view in (by_name[name] for name in names):
        column = table.column(view.stored)
        if lenient and view.part:
            wrong = without_part(column, view.part)
            column = column.take(pa.array(np.arange(len(column)), mask=wrong))
        shown.append(_column(ref.name, column, view, first_row))
    return pa.table(shown, names=names)


def part_words(part: str) -> str:
    """What is wrong with a value that lacks a part, and what would be right."""
    if part == ONE_BASED:
        return "is no number, give a whole number"
    return "is no size, write it like 512x768"


def without_part(column: pa.ChunkedArray, part: str) -> NDArray[np.bool_]:
    """Mask of values that cannot be divided into their parts; empty ones say nothing."""
    wrong = np.zeros(len(column), np.bool_)
    if pa.types.is_null(column.type):
        return wrong
    try:
        _part(column, part)
    except _NO_PART:
        for place in range(len(column)):
            try:
                _part(column.slice(place, 1), part)
            except _NO_PART:
                wrong[place] = True
    return wrong


def _column(
    manifest: str, column: pa.ChunkedArray, view: ColumnView, first_row: int
) -> pa.ChunkedArray:
    if not view.part or pa.types.is_null(column.type):
        return column.cast(_KINDS[view.part]) if view.part else column
    try:
        return _part(column, view.part)
    except _NO_PART:
        place = int(np.argmax(without_part(column, view.part)))
        shown, words = _shown(column[place]), part_words(view.part)
        raise ManifestError(manifest, first_row + place, view.stored, shown, words) from None


def _part(column: Any, part: str) -> Any:
    """A part of each value; what has none raises."""
    if part == ONE_BASED:
        numbers = column.cast(pa.int64())
        return pc.if_else(pc.greater(numbers, 0), pc.subtract(numbers, 1), numbers)
    texts = column.cast(pa.string())
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)
    texts = pc.if_else(blank, None, texts)
    found = pc.extract_regex(texts, _SIZE)
    if pc.sum(pc.is_null(found)).as_py() != pc.sum(pc.is_null(texts)).as_py():
        raise pa.ArrowInvalid("no size")
    return pc.struct_field(found, part).cast(pa.int32())


def _shown(value: pa.Scalar) -> str:
    try:
        return repr(value.as_py())[:60]
    except UnicodeDecodeError:
        return ""

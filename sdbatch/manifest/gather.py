"""Rows of text on their way to Parquet: kept on disk until the type of every column is known.

A type is inferred from the whole file, never from its beginning: a column is whole numbers
when all of its values are. `prompt`, `id` and other texts stay texts whatever they look like.
Rows rest in Arrow files of one batch each, so memory is that of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.errors import ManifestError, StorageError
from sdbatch.manifest.aliases import match_columns
from sdbatch.manifest.faults import Faults
from sdbatch.manifest.schema import CANONICAL, LATER
from sdbatch.manifest.text_rows import TextBatch

WHOLE = r"^[+-]?[0-9]+(?:\.0*)?$"
PLAIN_WHOLE = r"^(?:0|-?[1-9][0-9]{0,17})$"
NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
ANY_NUMBER = rf"{NUMBER}|^[+-]?(?i:nan|inf|infinity)$"
INEXACT = r"^[+-]?[0-9]{16,}(?:\.0*)?$"
"""Whole numbers that a float may not hold to the last digit: keys, in a column of others."""
MOST_EXACT = 2**53
PROMPTS = ("prompt", "negative_prompt")
_LISTED = (pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.null())


@dataclass
class _Seen:
    """What all batches so far hold in one column."""

    kinds: set[pa.DataType] = field(default_factory=set)
    filled: bool = False
    whole: bool = True
    number: bool = True
    exact: bool = True


class Gathering:
    """Collects batches of one or more files of the same kind.

    Args:
        name: The manifest, for messages.
        folder: A folder of its own, for the batches.
        from_cells: Whether values come from cells, where an empty one says nothing and a
            number is a text that looks like one.
    """

    def __init__(self, name: str, folder: Path, *, from_cells: bool) -> None:
        self._name, self._folder, self.from_cells = name, folder, from_cells
        self._seen: dict[str, _Seen] = {}
        self._sizes: list[int] = []
        self._nested: dict[str, list[NDArray[np.int64]]] = {}
        self.num_rows = 0
        self._lines = folder / "lines.i64"

    def add(self, batch: TextBatch) -> None:
        """Take in a batch.

        Raises:
            ManifestError: A text is no Unicode.
            StorageError: The disk is full.
        """
        arrays = {key: self._array(key, values) for key, values in batch.columns.items()}
        for key, array in arrays.items():
            self._note(key, array)
        table = pa.table(arrays)
        path = self._path(len(self._sizes))
        try:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            with self._lines.open("ab") as file:
                file.write(np.array(batch.lines, np.int64).tobytes())
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error}") from error
        self._sizes.append(len(batch.lines))
        self.num_rows += len(batch.lines)

    @property
    def names(self) -> list[str]:
        """All columns, in order of first appearance."""
        return list(self._seen)

    def line(self, row: int) -> int:
        """The line that a row begins at; 0 where there are none."""
        return int(np.memmap(self._lines, np.int64, "r")[row])

    def schema(self) -> pa.Schema:
        """The type of every column, from all rows."""
        roles = self._roles()
        return pa.schema([(key, self._type(key, roles.get(key, ""))) for key in self._seen])

    def tables(self, faults: Faults) -> Iterator[pa.Table]:
        """All rows in their final types; values that have none of theirs are marked."""
        schema, roles, first_row = self.schema(), self._roles(), 0
        for number, rows in enumerate(self._sizes):
            path = self._path(number)
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
                arrays = [
                    self._final(table.column(one.name), one, roles, first_row, faults)
                    if one.name in table.column_names
                    else pa.chunked_array([pa.nulls(rows, one.type)])
                    for one in schema
                ]
                yield pa.table(arrays, schema=schema)
            first_row += rows
            path.unlink()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.arrow"

    def _array(self, key: str, values: list[Any]) -> pa.Array:
        try:
            kinds = {str} if self.from_cells else set(map(type, values))
            if not kinds.isdisjoint((dict, list)):
                places = [row for row, one in enumerate(values) if isinstance(one, dict | list)]
                self._nested.setdefault(key, []).append(np.array(places) + self.num_rows)
            return pa.array(values, pa.string()) if kinds <= {str} else _json_array(values, kinds)
        except UnicodeEncodeError as error:
            reason = "holds half of a surrogate pair, which is no Unicode text; write it anew"
            row = self.num_rows + next(
                place for place, value in enumerate(values) if not _storable(value)
            )
            raise ManifestError(self._name, row, key, "", reason) from error

    def _note(self, key: str, array: pa.Array) -> None:
        seen = self._seen.setdefault(key, _Seen())
        if pa.types.is_null(array.type):
            return
        seen.kinds.add(array.type)
        if not self.from_cells:
            seen.exact = seen.exact and _is_exact(array)
        if self.from_cells and seen.number:
            texts = array.filter(pc.not_equal(array, ""))
            seen.filled = seen.filled or len(texts) > 0
            seen.whole = seen.whole and _all_match(texts, PLAIN_WHOLE)
            # What begins with a zero is a code: as a number it would lose it.
            seen.exact = seen.exact and not _any_match(texts, INEXACT)
            seen.number = _all_match(texts, NUMBER) and _all_match(texts, r"^-?(?:[^0+-]|0$|0\.)")

    def _roles(self) -> dict[str, str]:
        """Stored column to the canonical one, where its type is given; parts stay texts."""
        known = {*CANONICAL, *LATER}
        matched = match_columns(self._name, self.names, known)
        return {
            view.stored: "id" if view.part in ("width", "height") else view.name
            for view in matched.views
            if view.name in CANONICAL
        }

    def _type(self, key: str, role: str) -> pa.DataType:
        if role:
            kind = CANONICAL[role]
            if pa.types.is_integer(kind):
                return pa.int64()
            return pa.float64() if pa.types.is_floating(kind) else pa.string()
        seen = self._seen[key]
        if not self.from_cells:
            kind = _merged(seen.kinds)
            return kind if seen.exact or seen.kinds == {kind} else pa.string()
        if seen.filled and seen.whole and seen.number:
            return pa.int64()
        exact_number = seen.filled and seen.number and seen.exact
        return pa.float64() if exact_number else pa.string()

    def _final(
        self,
        column: pa.ChunkedArray,
        entry: pa.Field,
        roles: Mapping[str, str],
        first_row: int,
        faults: Faults,
    ) -> pa.ChunkedArray:
        role = roles.get(entry.name, "")
        if role and not pa.types.is_string(entry.type):
            return _numbers(column, entry, first_row, faults)
        if role:
            texts = _texts(column)
            if role in PROMPTS:
                self._mark_nested(entry.name, texts, first_row, faults)
            empty_is_null = self.from_cells and role != "prompt"
            return _null_for_empty(texts) if empty_is_null else texts
        if self.from_cells and not pa.types.is_string(entry.type):
            return _null_for_empty(column).cast(entry.type)
        return column if column.type == entry.type else _widened(column, entry.type)

    def _mark_nested(
        self, key: str, texts: pa.ChunkedArray, first_row: int, faults: Faults
    ) -> None:
        """A list or an object is no prompt: its JSON text would be drawn as one."""
        rows = np.concatenate(self._nested.get(key, [np.empty(0, np.int64)])) - first_row
        mask = np.zeros(len(texts), bool)
        mask[rows[(rows >= 0) & (rows < len(texts))]] = True
        faults.mark(mask, first_row, key, texts, lambda _: "must be a text, not a list or object")


def _json_array(values: list[Any], kinds: Collection[type]) -> pa.Array:
    """Values of these kinds, of one column of JSON: objects and mixed values as JSON texts."""
    if dict not in kinds:
        try:
            array = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
            pass
        else:
            kind = array.type
            listed = pa.types.is_list(kind) and kind.value_type in _LISTED
            if listed or kind in _LISTED:
                return array
    return pa.array([_json_text(value) for value in values], pa.string())


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _storable(value: Any) -> bool:
    try:
        (_json_text(value) or "").encode()
    except UnicodeEncodeError:
        return False
    return True


def _merged(kinds: Collection[pa.DataType]) -> pa.DataType:
    """The one type for all batches of a column."""
    found = set(kinds)
    if len(found) <= 1:
        only = next(iter(found), pa.string())
        return pa.list_(pa.string()) if only == pa.list_(pa.null()) else only
    if found == {pa.int64(), pa.float64()}:
        return pa.float64()
    if all(pa.types.is_list(kind) for kind in found):
        inner = _merged({kind.value_type for kind in found} - {pa.null()})
        whole_or_same = inner != pa.string() or found <= {
            pa.list_(pa.string()),
            pa.list_(pa.null()),
        }
        return pa.list_(inner) if whole_or_same else pa.string()
    return pa.string()


def _all_match(texts: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(texts, pattern)).as_py() is not False


def _is_exact(array: pa.Array) -> bool:
    """Whether floats would hold these whole numbers, or those of these lists, to the digit."""
    inner = array.flatten() if pa.types.is_list(array.type) else array
    if not pa.types.is_integer(inner.type) or not len(inner):
        return True
    ends = pc.min_max(inner).as_py()
    return all(-MOST_EXACT <= (end or 0) <= MOST_EXACT for end in ends.values())


def _any_match(texts: pa.Array, pattern: str) -> bool:
    return pc.any(pc.match_substring_regex(texts, pattern)).as_py() is True


def _null_for_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts, of whatever JSON held there."""
    if pa.types.is_string(column.type):
        return column
    texts = [_json_text(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _widened(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    return _texts(column) if pa.types.is_string(kind) else column.cast(kind)


def _numbers(
    column: pa.ChunkedArray, entry: pa.Field, first_row: int, faults: Faults
) -> pa.ChunkedArray:
    """A column that sdbatch reads numbers from; what is none is marked, and null."""
    whole = pa.types.is_integer(entry.type)
    if pa.types.is_null(column.type):
        return column.cast(entry.type)
    if pa.types.is_floating(column.type) and whole:
        column = _texts_of_floats(column)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return column.cast(entry.type, safe=whole)
    texts = pc.utf8_trim_whitespace(_texts(column))
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    good = pc.fill_null(pc.match_substring_regex(texts, WHOLE if whole else ANY_NUMBER), True)
    words = "must be a whole number" if whole else "must be a number"
    read = pc.if_else(good, texts, pa.scalar(None, pa.string()))
    if whole:
        read = pc.replace_substring_regex(read, r"^\+|\.0*$", "")
        fits = pc.fill_null(pc.less_equal(pc.utf8_length(read), 18), True)
        fits = pc.or_(fits, _fits_int64(read))
        good = pc.and_(good, fits)
        read = pc.if_else(fits, read, pa.scalar(None, pa.string()))
    faults.mark(np.asarray(pc.invert(good)), first_row, entry.name, column, lambda _: words)
    return read.cast(entry.type)


def _texts_of_floats(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = [
        None if value is None else f"{value:.0f}" if value == value // 1 else str(value)
        for value in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _fits_int64(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether whole numbers of many digits have room; asked of each distinct text once."""
    long = pc.fill_null(pc.greater(pc.utf8_length(texts), 18), False)
    wide = pc.unique(texts.filter(long)).to_pylist()
    fit = [text for text in wide if -(2**63) <= int(text[:4000]) < 2**63]
    return pc.is_in(texts, value_set=pa.array(fit, pa.string()))

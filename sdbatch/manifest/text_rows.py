"""Rows of text manifests: CSV, TSV, JSON lines, JSON arrays and plain prompts.

Each reader yields batches of columns as Python values, with the line every row begins at, so
that any later fault can name it. Batches are bounded by bytes as well as by rows.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sdbatch.errors import ManifestError
from sdbatch.manifest.text_stream import LONGEST_LINE_BYTES

BATCH_ROWS = 16384
BATCH_CHARS = 16 << 20
LONGEST_ARRAY_CHARS = 512 << 20
_INDENT = " \t\r\n"


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Some rows of a text manifest.

    Attributes:
        columns: Name to one value a row; of tables with a header all values are texts.
        lines: The line that each row begins at, from 1; 0 where there are no lines.
    """

    columns: Mapping[str, list[Any]]
    lines: list[int]


def prompt_batches(stream: Iterable[str], _name: str) -> Iterator[TextBatch]:
    """One prompt a line; line ends are cut and blank lines left out."""
    numbered = ((line, text) for line, text in enumerate(stream, 1) if text.strip())
    for rows in _batches(numbered, lambda row: len(row[1])):
        texts = [text.rstrip("\r\n") for _, text in rows]
        yield TextBatch({"prompt": texts}, [line for line, _ in rows])


def table_batches(
    stream: Iterable[str], name: str, *, delimiter: str = ",", quoted: bool = True
) -> Iterator[TextBatch]:
    """CSV or TSV with a header.

    Args:
        stream: Lines with their ends.
        name: The file, for messages.
        delimiter: Between two values.
        quoted: Whether quotation marks enclose values; otherwise they are part of them.

    Raises:
        ManifestError: There is no header, a row has more or fewer values than it, or a
            quotation mark is out of place.
    """
    lines = _Counted(stream)
    options: dict[str, Any] = {"quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE}
    reader = csv.reader(lines, delimiter=delimiter, strict=True, **options)
    with _long_fields(), _named(name, reader):
        header = next((row for row in reader if row), None)
        if header is None:
            return
        _demand_names(name, header)
        width = len(header)
        for rows in _batches(_rows(name, reader, width), lambda _: lines.taken()):
            columns = zip(*(row for _, row in rows), strict=True)
            yield TextBatch(
                {key: list(column) for key, column in zip(header, columns, strict=True)},
                [line for line, _ in rows],
            )


def encloses_values(stream: Iterable[str]) -> bool:
    """Whether quotation marks enclose values in a file of tabs, as spreadsheets write them.

    A file in which a mark stands where such a program would not write one has them as part
    of its texts.
    """
    reader = csv.reader(stream, delimiter="\t", strict=True)
    try:
        with _long_fields():
            width = len(next(reader, []))
            return all(len(row) == width for row in reader if row)
    except csv.Error:
        return False


def object_batches(stream: Iterable[str], name: str) -> Iterator[TextBatch]:
    """One JSON object a line; blank lines are left out.

    Raises:
        ManifestError: A line is no JSON object, or holds a text that is no Unicode.
    """
    numbered = ((line, text) for line, text in enumerate(stream, 1) if text.strip(_INDENT))
    for rows in _batches(numbered, lambda row: len(row[1])):
        found = _objects(name, rows)
        yield _columns(name, found, [line for line, _ in rows])


def array_batches(stream: Iterable[str], name: str) -> Iterator[TextBatch]:
    """A JSON array of objects, read whole.

    Raises:
        ManifestError: It is no such array, or a very long one.
    """
    pieces, held = [], 0
    for line in stream:
        pieces.append(line)
        held += len(line)
        if held > LONGEST_ARRAY_CHARS:
            raise ManifestError(
                name, -1, "", "", "is a huge JSON array, write one row a line: .jsonl"
            )
    rows = _parsed(name, "".join(pieces), "")
    if not isinstance(rows, list):
        reason = f"holds {_kind(rows)}, must hold a JSON array of objects"
        raise ManifestError(name, -1, "", "", reason)
    for first in range(0, len(rows), BATCH_ROWS):
        part = rows[first : first + BATCH_ROWS]
        for index, row in enumerate(part, first):
            if not isinstance(row, dict):
                reason = f"{_kind(row)} is no row, must be a JSON object"
                raise ManifestError(name, index, "", "", reason)
        yield _columns(name, part, [0] * len(part))


class _Counted:
    """Lines on their way to a reader that takes several for one row."""

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream, self._chars = iter(stream), 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._stream)
        self._chars += len(line)
        return line

    def taken(self) -> int:
        """Characters since the last call."""
        chars, self._chars = self._chars, 0
        return chars


def _batches(rows: Iterable[Any], size_of: Any) -> Iterator[list[Any]]:
    held: list[Any] = []
    chars = 0
    for row in rows:
        held.append(row)
        chars += size_of(row)
        if len(held) == BATCH_ROWS or chars > BATCH_CHARS:
            yield held
            held, chars = [], 0
    if held:
        yield held


def _rows(name: str, reader: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    begins = reader.line_num + 1
    for row in reader:
        if row:
            if len(row) != width:
                reason = f"line {begins} has {len(row)} values, the header has {width}"
                if len(row) > width:
                    reason += "; put quotation marks round values that hold the separator"
                raise ManifestError(name, -1, "", "", reason)
            yield begins, row
        begins = reader.line_num + 1


def _demand_names(name: str, header: list[str]) -> None:
    for place, column in enumerate(header, 1):
        if not column.strip():
            reason = f"column {place} has no name, give it one or remove the column"
            raise ManifestError(name, -1, "", "", reason)
        if header.count(column) > 1:
            raise ManifestError(name, -1, column, "", "stands twice, rename one of them")


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let one value be as long as a line may be; Python's own bound is 128 KB."""
    before = csv.field_size_limit(LONGEST_LINE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


@contextmanager
def _named(name: str, reader: Any) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        reason = f"line {reader.line_num}: {_SAID.get(str(error), str(error))}"
        raise ManifestError(name, -1, "", "", reason) from error


_SAID = {
    "unexpected end of data": "the file ends inside quotation marks, close them",
    "',' expected after '\"'": "text follows a closing quotation mark, double the marks inside",
    "'\t' expected after '\"'": "text follows a closing quotation mark, double the marks inside",
}


def _objects(name: str, rows: list[tuple[int, str]]) -> list[dict[str, Any]]:
    for line, text in rows:
        # Two values on a line would pass when lines are joined to one array below.
        if not (text.lstrip(_INDENT)[0] == "{" and text.rstrip(_INDENT)[-1] == "}"):
            value = _parsed(name, text, f"line {line}: ")
            reason = f"line {line}: {_kind(value)} is no row, must be a JSON object"
            raise ManifestError(name, -1, "", "", reason)
    try:
        found = json.loads(f"[{','.join(text for _, text in rows)}]")
    except (ValueError, RecursionError):
        found = []
    if len(found) == len(rows):
        return list(found)
    return [_parsed(name, text, f"line {line}: ") for line, text in rows]


def _parsed(name: str, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ManifestError(name, -1, "", "", f"{where}is nested too deeply") from error
    except ValueError as error:
        said = getattr(error, "msg", str(error)).partition(";")[0]
        place = getattr(error, "colno" if where else "lineno", 0)
        place = f" at {'column' if where else 'line'} {place}" if place else ""
        reason = f"{where}is no JSON{place} ({said}), write one object a row"
        raise ManifestError(name, -1, "", "", reason) from error


def _columns(name: str, rows: list[dict[str, Any]], lines: list[int]) -> TextBatch:
    names = dict.fromkeys(key for row in rows for key in row)
    for key in names:
        if not key.strip():
            raise ManifestError(name, -1, "", "", "a column has no name, give every key one")
        if not key.isprintable() and not _is_unicode(key):
            raise ManifestError(name, -1, "", "", f"a column name is no Unicode text: {key!a}")
    return TextBatch({key: [row.get(key) for row in rows] for key in names}, lines)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a truth value"}
    return "null" if value is None else kinds.get(type(value), "a number")

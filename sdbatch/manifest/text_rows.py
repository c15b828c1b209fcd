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
from itertools import accumulate, chain
from operator import itemgetter
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
    for lines, held in _line_batches(stream, None):
        yield TextBatch({"prompt": [text.rstrip("\r\n") for text in held]}, lines)


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
        for begins, rows in _row_batches(name, reader, lines, width):
            values = list(chain.from_iterable(rows))
            yield TextBatch({key: values[at::width] for at, key in enumerate(header)}, begins)


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
    for lines, held in _line_batches(stream, _INDENT):
        yield _columns(name, _objects(name, lines, held), lines)


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
    """Lines on their way to a reader that takes several for one row.

    Attributes:
        chars: Of all lines so far.
    """

    def __init__(self, stream: Iterable[str]) -> None:
        self._stream, self.chars = stream, 0

    def __iter__(self) -> Iterator[str]:
        for line in self._stream:
            self.chars += len(line)
            yield line


def _line_batches(
    stream: Iterable[str], indent: str | None
) -> Iterator[tuple[list[int], list[str]]]:
    """Lines that are not blank, a batch at a time, with their numbers.

    One plain loop: at a million rows every call that a row makes is a tenth of a second.
    """
    lines: list[int] = []
    held: list[str] = []
    chars = 0
    for line, text in enumerate(stream, 1):
        if not text.strip(indent):
            continue
        lines.append(line)
        held.append(text)
        chars += len(text)
        if len(held) == BATCH_ROWS or chars > BATCH_CHARS:
            yield lines, held
            lines, held, chars = [], [], 0
    if held:
        yield lines, held


def _row_batches(
    name: str, reader: Any, counted: _Counted, width: int
) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Rows that are not blank, a batch at a time, with the lines they begin at."""
    held: list[list[str]] = []
    begins, most = reader.line_num + 1, counted.chars + BATCH_CHARS
    try:
        for row in reader:
            held.append(row)
            if len(held) == BATCH_ROWS or counted.chars > most:
                full, held = held, []
                batch = _placed(name, full, begins, reader.line_num, width)
                if batch[1]:
                    yield batch
                begins, most = reader.line_num + 1, counted.chars + BATCH_CHARS
    except (csv.Error, ManifestError):
        _placed(name, held, begins, -1, width)  # what is wrong further up is said first
        raise
    batch = _placed(name, held, begins, reader.line_num, width)
    if batch[1]:
        yield batch


def _placed(
    name: str, rows: list[list[str]], begins: int, ends: int, width: int
) -> tuple[list[int], list[list[str]]]:
    """The line that each row begins at, and the rows; blank ones are left out.

    Args:
        name: The file, for messages.
        rows: As they stand in the file, from line `begins` to line `ends`.
        begins: See `rows`.
        ends: See `rows`; -1 where it is not known.
        width: Values of a row.
    """
    if ends - begins + 1 == len(rows):
        lines = list(range(begins, ends + 1))
    else:
        heights = (1 + sum(value.count("\n") for value in row) for row in rows)
        lines = list(accumulate(heights, initial=begins))[:-1]
    if set(map(len, rows)) <= {width}:
        return lines, rows
    kept = [(line, row) for line, row in zip(lines, rows, strict=True) if row]
    for line, row in kept:
        if len(row) != width:
            reason = f"line {line} has {len(row)} values, the header has {width}"
            if len(row) > width:
                reason += "; put quotation marks round values that hold the separator"
            raise ManifestError(name, -1, "", "", reason)
    return [line for line, _ in kept], [row for _, row in kept]


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


def _objects(name: str, lines: list[int], texts: list[str]) -> list[dict[str, Any]]:
    for line, text in zip(lines, texts, strict=True):
        # Two values on a line would pass when lines are joined to one array below.
        bare = text.strip(_INDENT)
        if bare[0] != "{" or bare[-1] != "}":
            value = _parsed(name, text, f"line {line}: ")
            reason = f"line {line}: {_kind(value)} is no row, must be a JSON object"
            raise ManifestError(name, -1, "", "", reason)
    try:
        found = json.loads(f"[{','.join(texts)}]")
    except (ValueError, RecursionError):
        found = []
    if len(found) == len(texts):
        return list(found)
    each = zip(lines, texts, strict=True)
    return [_parsed(name, text, f"line {line}: ") for line, text in each]


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
    layouts = dict.fromkeys(map(tuple, rows))
    names = dict.fromkeys(chain.from_iterable(layouts))
    for key in names:
        if not key.strip():
            raise ManifestError(name, -1, "", "", "a column has no name, give every key one")
        if not key.isprintable() and not _is_unicode(key):
            raise ManifestError(name, -1, "", "", f"a column name is no Unicode text: {key!a}")
    if len(layouts) == 1:
        columns = {key: list(map(itemgetter(key), rows)) for key in names}
    else:
        columns = {key: [row.get(key) for row in rows] for key in names}
    return TextBatch(columns, lines)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a truth value"}
    return "null" if value is None else kinds.get(type(value), "a number")

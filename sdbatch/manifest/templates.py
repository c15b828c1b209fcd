"""Templates expanded to rows: the chosen values become columns beside the prompt.

    expand("a {red|blue} __animals__", wildcards={"animals": ["fox", "owl"]})

gives rows with `prompt`, `slot_1`, `slot_animals` and `template`. A grid holds every
combination once: the leftmost slot changes slowest, the rightmost from row to row. Random
rows are drawn with a seed and depend on nothing else. The language is that of
`manifest/template_syntax.py`; what cannot be expanded whole is an error, never text that
is left in a prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from sdbatch.errors import InputError, ManifestError
from sdbatch.manifest.template_binding import (
    Binder,
    GivenWildcards,
    Template,
    WildcardSource,
)
from sdbatch.manifest.template_syntax import parse
from sdbatch.manifest.template_values import grid_rows, random_rows

DEFAULT_LIMIT = 1_000_000
"""Most rows of a grid when nobody names a limit."""
CHUNK_ROWS = 16384
"""Rows made at once; random rows depend on it, so it never changes."""
Mode = Literal["grid", "random"]
Scalar = int | float | str | bool


class TemplateLine(NamedTuple):
    """A template, and where it stands."""

    text: str
    name: str
    line: int


Lines = Callable[[], Iterable[TemplateLine]]


@dataclass(frozen=True)
class Expansion:
    """Templates that are checked and counted, and not yet made.

    Attributes:
        num_rows: How many rows will be made.
        schema: Their columns: `prompt`, those of the slots, set columns, `template`.
    """

    num_rows: int
    schema: pa.Schema
    _templates: Callable[[], Iterator[Template]]
    _rows: Callable[[int, Template], int]
    _seed: int | None
    _columns: Mapping[str, Scalar]

    def __iter__(self) -> Iterator[pa.Table]:
        """All rows in order, in tables of at most `CHUNK_ROWS`; memory stays bounded."""
        waiting: list[pa.Table] = []
        held = 0
        for place, template in enumerate(self._templates()):
            for table in self._tables(place, template):
                if held + table.num_rows > CHUNK_ROWS:
                    yield pa.concat_tables(waiting).combine_chunks()
                    waiting, held = [], 0
                waiting.append(table)
                held += table.num_rows
        if held:
            yield pa.concat_tables(waiting).combine_chunks()

    def to_table(self) -> pa.Table:
        """All rows in one table."""
        return pa.concat_tables([self.schema.empty_table(), *self]).combine_chunks()

    def _tables(self, place: int, template: Template) -> Iterator[pa.Table]:
        count = self._rows(place, template)
        for chunk, first in enumerate(range(0, count, CHUNK_ROWS)):
            end = min(first + CHUNK_ROWS, count)
            if self._seed is None:
                prompts, slots = grid_rows(template, first, end)
            else:
                words = np.random.SeedSequence([self._seed, place, chunk])
                generator = np.random.Generator(np.random.PCG64(words))
                prompts, slots = random_rows(template, end - first, generator)
            yield self._table(template, prompts, slots)

    def _table(self, template: Template, prompts: Any, slots: Mapping[str, Any]) -> pa.Table:
        said = {"prompt": prompts, **slots}
        arrays = []
        for field in self.schema:
            if field.name in said:
                arrays.append(pa.array(said[field.name], field.type))
            else:
                fixed = {"template": template.text, **self._columns}.get(field.name)
                arrays.append(pa.repeat(pa.scalar(fixed, field.type), len(prompts)))
        return pa.table(arrays, schema=self.schema)


def expand(
    templates: str | Sequence[str] | Lines,
    *,
    mode: Mode = "grid",
    rows: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    wildcards: WildcardSource | Mapping[str, Sequence[str]] | None = None,
    columns: Mapping[str, Scalar] | None = None,
) -> Expansion:
    """Check templates and count their rows; iterate over the result to make them.

    Args:
        templates: One or several, or a function that yields them with their places, which is
            called twice.
        mode: `grid` for every combination, `random` for drawn ones.
        rows: How many random rows, over all templates together.
        seed: Of random rows; >= 0.
        limit: Most rows allowed; a grid has 1,000,000 when it is None.
        wildcards: Values of `__names__`.
        columns: Columns with one value for all rows.

    Raises:
        ManifestError: A template is malformed, with line and column; a wildcard or variable
            is missing or cyclic; or the rows are more than the limit.
        InputError: An argument is impossible.
    """
    _demand_arguments(mode, rows, seed, limit)
    lines = templates if callable(templates) else lambda: _given(templates)
    given = GivenWildcards(wildcards) if isinstance(wildcards, Mapping) else wildcards
    binder = Binder(given)

    def bound() -> Iterator[Template]:
        for text, name, line in lines():
            yield binder.template(text, parse(text, name, line))

    names: dict[str, None] = {}
    count = grid = 0
    most = limit if limit is not None else DEFAULT_LIMIT
    for template in bound():
        names |= dict.fromkeys(slot.column for slot in template.slots)
        count += 1
        if mode == "grid":
            grid += template.size
    if mode == "grid" and grid > most:
        raise ManifestError(_first(lines), -1, "", "", _explosion(grid, most))
    if not count:
        raise InputError("no template is given, the first must stand on a line of its own")
    total = grid if mode == "grid" else _demand_rows(rows or 0, count, limit)
    return Expansion(
        total,
        _schema(names, columns or {}),
        bound,
        (lambda _, template: template.size)
        if mode == "grid"
        else (lambda place, _: total // count + (place < total % count)),
        None if mode == "grid" else seed,
        columns or {},
    )


def _given(templates: str | Sequence[str]) -> Iterator[TemplateLine]:
    if isinstance(templates, str):
        yield TemplateLine(templates, "template", 1)
        return
    for place, text in enumerate(templates, 1):
        yield TemplateLine(text, f"template {place}", 1)


def _first(lines: Lines) -> str:
    return next((line.name for line in lines()), "template")


def _explosion(grid: int, most: int) -> str:
    said = f"{grid:,}" if grid < 10**15 else f"about 10^{len(str(grid)) - 1}"
    wanted = f"allow them with --limit {grid}, or " if grid < 10**9 else ""
    return (
        f"the grid has {said} rows, over the limit of {most:,}: "
        f"{wanted}draw some of them with --mode random --rows N"
    )


def _demand_arguments(mode: str, rows: int | None, seed: int, limit: int | None) -> None:
    if mode not in ("grid", "random"):
        raise InputError(f"--mode {mode}: must be grid or random")
    if mode == "random" and (rows is None or rows < 1):
        raise InputError("--mode random needs --rows N, how many rows to draw")
    if mode == "grid" and rows is not None:
        raise InputError("--rows is of --mode random; a grid has as many as it has")
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed {seed}: must be a whole number from 0 to {2**63 - 1}")
    if limit is not None and not 1 <= limit < 2**53:
        raise InputError(f"--limit {limit}: must be from 1 to {2**53 - 1}")


def _demand_rows(rows: int, templates: int, limit: int | None) -> int:
    if limit is not None and rows > limit:
        raise InputError(f"--rows {rows}: is over the limit of {limit:,}")
    if rows < templates:
        raise InputError(f"--rows {rows}: give at least one for each of {templates:,} templates")
    return rows


def _schema(slots: Iterable[str], columns: Mapping[str, Scalar]) -> pa.Schema:
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    fields = [pa.field("prompt", pa.string())]
    fields += [pa.field(name, pa.string()) for name in slots]
    own = {"template", *(field.name for field in fields)}
    for name, value in columns.items():
        if name in own or not name:
            raise InputError(f"--set-column {name}: the template makes a column of this name")
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
            raise InputError(f"--set-column {name}: {value} is too large a number")
        fields.append(pa.field(name, kinds[type(value)]))
    return pa.schema([*fields, pa.field("template", pa.string())])

"""A loaded model in this process: rows in, pictures out, no files and no cluster.

For notebooks and for programs that want a picture now. Rows of any mix of settings share
the lanes exactly as they do in a run, and a row gives the same pixels as it does there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pyarrow as pa

from sdbatch.errors import ManifestError, ManifestRowsError
from sdbatch.manifest.aliases import ONE_BASED, Matched, match_columns
from sdbatch.manifest.content import content_digests
from sdbatch.manifest.faults import Faults, Limits, find_faults
from sdbatch.manifest.freeze import as_table, demand_one_split, is_table
from sdbatch.manifest.later import LATER, asks, later_reason
from sdbatch.manifest.schema import CANONICAL, read_columns
from sdbatch.manifest.view import shown_table
from sdbatch.model_specs import RenderEnv
from sdbatch.plan.rows import Resolving, resolve_rows
from sdbatch.records import ColumnView, ManifestRef, ModelFacts, RenderRow
from sdbatch.render.protocol import Renderer
from sdbatch.results import RenderedImage, RowFailure

NAME = "rows"


class Model:
    """A model that is ready to draw.

    Attributes:
        facts: What it is: revision, defaults, limits.
        renderer: What draws.
    """

    def __init__(
        self, facts: ModelFacts, renderer: Renderer, limits: Limits, weights_revision: str = ""
    ) -> None:
        self.facts = facts
        self._weights_revision = weights_revision or facts.revision
        self.renderer = renderer
        self._limits = limits

    @property
    def env(self) -> RenderEnv:
        """What it runs on."""
        return self.renderer.env

    def stream(
        self, rows: Iterable[Mapping[str, Any] | str], *, seed: int = 0
    ) -> Iterator[RenderedImage | RowFailure]:
        """Draw rows as they come and yield finished pictures, in any order.

        Rows are pulled while earlier ones are being drawn, so an endless iterable is fine.

        Args:
            rows: Prompts, or dicts with a manifest's columns (`prompt`, `seed`, `width`, ...)
                under any of their names; or a table, Arrow's, pandas' or Hugging Face's.
                Columns that are not read are ignored. Equal rows without a seed get
                different ones, those of a run.
            seed: For rows without a seed of their own.

        Raises:
            ManifestError: `rows` are none, or a row is none or has a value of the wrong type.
            ManifestRowsError: A row cannot be drawn as written; those before it were yielded
                or are dropped.
        """
        return self.renderer.render(self.resolve(rows, seed=seed))

    def resolve(
        self, rows: Iterable[Mapping[str, Any] | str], *, seed: int = 0
    ) -> Iterator[RenderRow]:
        """The pictures that rows ask for, every setting resolved; as `stream`, undrawn."""
        return self._resolved(_one_by_one(rows), seed)

    def _resolved(self, tables: Iterator[pa.Table], seed: int) -> Iterator[RenderRow]:
        how = Resolving(
            manifest=NAME,
            defaults=self.facts.defaults,
            seed=seed,
            hash_rows=True,
            occurrences={},
            model_revision=self._weights_revision,
        )
        seen: Counter[bytes] = Counter()
        for position, table in enumerate(tables):
            faults = Faults(NAME)
            find_faults(table, position, self._limits, faults)
            if faults.total:
                raise ManifestRowsError(faults.first(), faults.total)
            before = _equal_before(table, seen)
            yield from resolve_rows(table, [position], replace(how, occurrences={position: before}))


def _one_by_one(rows: Any) -> Iterator[pa.Table]:
    """Tables of one row each, with the columns that are read; refused at once if not rows."""
    if isinstance(rows, str | bytes):
        raise ManifestError(NAME, -1, "", "", "one text is no list of prompts, give ['a fox']")
    if isinstance(rows, Mapping):
        demand_one_split(NAME, rows)
        reason = "a dict is one row, give a list of them, such as [{'prompt': 'a fox'}]"
        raise ManifestError(NAME, -1, "", "", reason)
    if is_table(rows) or not isinstance(rows, Iterable):
        return _rows_of_table(as_table(rows, NAME))
    return (_table_of_row(row, position) for position, row in enumerate(rows))


def _rows_of_table(table: pa.Table) -> Iterator[pa.Table]:
    matched = _matched(tuple(table.column_names))
    later = [view for view in matched.views if view.name in LATER]
    stored = list(dict.fromkeys(one.stored for one in _read(matched)))
    held = [_held(matched, name) for name in stored]
    for position in range(table.num_rows):
        row = table.slice(position, 1)
        with _at(position):
            _demand_drawable(
                later, {one.stored: row.column(one.stored)[0].as_py() for one in later}
            )
            shown = _shown(matched, row.select(stored).rename_columns(held))
        yield shown


@lru_cache(maxsize=64)
def _matched(names: tuple[str, ...]) -> Matched:
    """Which of a row's columns are read as what, as in a manifest."""
    return match_columns(NAME, names, {*CANONICAL, *LATER})


def _read(matched: Matched) -> list[ColumnView]:
    return [view for view in matched.views if view.name in CANONICAL]


def _held(matched: Matched, stored: str) -> str:
    """What a column is called before its parts are taken: canonical where it is whole."""
    view = next(one for one in matched.views if one.stored == stored)
    return view.stored if view.part else view.name


def _shown(matched: Matched, table: pa.Table) -> pa.Table:
    """One row under canonical names, refused where a manifest with its columns would be."""
    views = tuple(replace(view, stored=_held(matched, view.stored)) for view in _read(matched))
    shown = shown_table(ManifestRef(NAME, (), "", views), table, None, 0) if views else pa.table({})
    _demand_columns(shown, [*shown.column_names, *matched.rest])
    return shown


def _demand_drawable(later: Iterable[ColumnView], row: Mapping[str, Any]) -> None:
    """Refuse a row that asks for what this version cannot draw."""
    for view in later:
        value = row[view.stored]
        if view.part == ONE_BASED and isinstance(value, int) and value > 0:
            value -= 1
        if asks(view.name, value):
            raise ManifestError(NAME, -1, view.stored, str(value)[:60], later_reason(view.name))


def _table_of_row(row: Any, position: int) -> pa.Table:
    if isinstance(row, str):
        row = {"prompt": row}
    if not isinstance(row, Mapping):
        reason = f"{type(row).__name__} is no row, give a prompt or a dict with a 'prompt'"
        raise ManifestError(NAME, position, "", "", reason)
    stated = {str(name): value for name, value in row.items()}
    with _at(position):
        matched = _matched(tuple(stated))
        _demand_drawable((view for view in matched.views if view.name in LATER), stated)
        # Only what is read becomes Arrow: other values may be anything, pictures for example.
        read = {_held(matched, one.stored): stated[one.stored] for one in _read(matched)}
        return _shown(matched, as_table([read], NAME) if read else pa.table({}))


def _demand_columns(read: pa.Table, names: list[str]) -> None:
    """Refuse what `read_columns` refuses; columns that are not read need no type for that."""
    kinds = {field.name: field.type for field in read.schema}
    schema = pa.schema([pa.field(name, kinds.get(name, pa.null())) for name in names])
    read_columns(NAME, schema)


@contextmanager
def _at(position: int) -> Iterator[None]:
    """Name the row in faults that were found without knowing it."""
    try:
        yield
    except ManifestError as fault:
        raise ManifestError(NAME, position, fault.column, fault.value, fault.reason) from fault


def _equal_before(table: pa.Table, seen: Counter[bytes]) -> int:
    """How many equal rows came before this one, which is then counted.

    Rows with an id or a seed of their own need no number, and an endless stream of them
    must not fill the memory.
    """
    if "id" in table.column_names:
        return 0
    if "seed" in table.column_names and table.column("seed").null_count == 0:
        return 0
    (digest,) = content_digests(table)
    seen[digest] += 1
    return seen[digest] - 1

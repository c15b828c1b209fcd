"""Every row of a manifest, checked before a GPU is asked for.

Rows are read in batches and checked column by column in Arrow and numpy, so a million rows
take seconds and a bounded piece of memory. A report holds the first problems and the count
of all; it also knows which rows are equal, because seeds of rows without an `id` need that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.bad_rows import emptied
from sdbatch.manifest.content import content_digests, id_digests
from sdbatch.manifest.fault_log import FaultLog
from sdbatch.manifest.faults import Faults, Limits, find_faults, mark_later, mark_texts
from sdbatch.manifest.input_files import InputFiles, mark_files
from sdbatch.manifest.prompt_columns import count_weighted, weighted_note
from sdbatch.manifest.reader import Manifest, Storage, iter_tables, read_rows
from sdbatch.manifest.repeats import Repeats
from sdbatch.manifest.scheduler_checks import scheduler_settings
from sdbatch.manifest.schema import blank, read_columns
from sdbatch.manifest.texts import holds_text
from sdbatch.manifest.unread import mark_parts, unread_cells, with_sources
from sdbatch.records import ManifestRef

Size = tuple[int | None, int | None]
Rows = NDArray[np.int64]
_NO_ROWS: Rows = np.empty(0, np.int64)
_UNSTATED = -1
KEPT_SCHEDULERS = 4096
TENTHS = 10
LARGEST_COUNTED = 10_000.0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check of all rows found.

    Attributes:
        problems: The first of them, in row order.
        total: How many there are.
        num_rows: Rows checked.
        num_images: Pictures they ask for.
        sizes: (width, height) in pixels, None where a row leaves it open, to its rows.
        repeat_rows: Rows equal to an earlier one, ascending; empty with an `id` column.
        repeat_numbers: How many equal rows precede each of them: its occurrence, from 1.
        notes: Sentences for `plan`.
        schedulers: (class name, options as JSON) that rows state, empty where they do
            not, to the rows that do; no more than the first `KEPT_SCHEDULERS`.
        steps: Numbers of steps that rows state themselves, to the rows that do.
        guidance: Guidance likewise, rounded up to tenths.
    """

    problems: tuple[ManifestError, ...]
    total: int
    num_rows: int
    num_images: int
    sizes: dict[Size, int]
    repeat_rows: NDArray[np.int64]
    repeat_numbers: NDArray[np.int64]
    notes: tuple[str, ...]
    schedulers: dict[tuple[str, str], int] = field(default_factory=dict)
    steps: Counter[int] = field(default_factory=Counter)
    guidance: Counter[float] = field(default_factory=Counter)


def check_rows(
    manifest: Manifest,
    *,
    limits: Limits,
    storage: Storage = None,
    limit: int | None = None,
    log: FaultLog | None = None,
    files: InputFiles | None = None,
) -> CheckReport:
    """Check every row, or the first `limit` rows.

    Args:
        manifest: The rows.
        limits: What they are held to.
        storage: fsspec options of the manifest's file system.
        limit: Rows to look at; None for all.
        log: Told of every problem; None keeps and counts them only.
        files: Looks up the files that rows point to; None does not ask for them.

    Raises:
        ManifestError: The manifest cannot be read at all; problems of rows and columns are
            reported, not raised.
        StorageError: The store cannot be reached, or the temporary folder is full.
    """
    ref = manifest.ref
    num_rows = ref.num_rows if limit is None else min(limit, ref.num_rows)
    try:
        columns = read_columns(ref.name, manifest.schema, limits.reserved)
    except ManifestError as problem:
        Faults(ref.name, log).mark_whole(problem)
        return CheckReport((problem,), 1, num_rows, 0, {}, _NO_ROWS, _NO_ROWS, ())
    texts = tuple(name for name in columns.user if holds_text(manifest.schema.field(name).type))
    pass_over = _Pass(Faults(ref.name, log), limits)
    with Repeats() as repeats:
        ref, sources = with_sources(ref)
        shown = tuple(one.shown for one in sources)
        wanted = columns.canonical + texts + columns.later + shown
        for batch, first_row in _batches(ref, wanted, num_rows, storage):
            pass_over.faults.begin_batch()
            mark_parts(batch, first_row, pass_over.faults, sources)
            mark_texts(batch.select(texts), first_row, pass_over.faults)
            later = batch.select(columns.later)
            mark_later(later, first_row, pass_over.faults)
            if files is not None:
                mark_files(later, first_row, pass_over.faults, files)
            table = batch.select(columns.canonical)
            pass_over.take(table, first_row)
            _add_identities(repeats, table, first_row)
        rows, firsts, numbers = _in_row_order(repeats)
    if "id" in columns.canonical:
        _report_duplicates(manifest, rows, firsts, pass_over.faults, storage)
        rows = numbers = _NO_ROWS
    for cell in unread_cells(manifest.unread, num_rows):
        pass_over.faults.mark_cell(*cell)
    return _report(manifest, num_rows, pass_over, columns.notes, rows, numbers)


def _report(
    manifest: Manifest,
    num_rows: int,
    pass_over: _Pass,
    notes: tuple[str, ...],
    rows: Rows,
    numbers: Rows,
) -> CheckReport:
    problems = pass_over.faults.first()
    if manifest.origin is not None:
        problems = tuple(manifest.origin.placed(problem) for problem in problems)
    return CheckReport(
        *(problems, pass_over.faults.total, num_rows, pass_over.num_images),
        *(pass_over.sizes, rows, numbers, notes + pass_over.notes()),
        schedulers=pass_over.schedulers,
        steps=pass_over.steps,
        guidance=pass_over.guidance,
    )


class _Pass:
    """What one reading of the rows adds up to."""

    def __init__(self, faults: Faults, limits: Limits) -> None:
        self.faults, self.limits = faults, limits
        self.num_images = 0
        self.num_empty = 0
        self.num_weighted = 0
        self.sizes: dict[Size, int] = {}
        self.schedulers: dict[tuple[str, str], int] = {}
        self.steps: Counter[int] = Counter()
        self.guidance: Counter[float] = Counter()

    def take(self, table: pa.Table, first_row: int) -> None:
        """Check one batch and count what it asks for."""
        find_faults(table, first_row, self.limits, self.faults)
        table = emptied(table, self.faults.marked)  # what is wrong asks for nothing
        images = _whole(table, "num_images_per_prompt", self.limits.num_images_per_prompt)
        self.num_images += int(images.sum())
        self.num_weighted += count_weighted(table, self.limits.prompt_syntax)
        prompts = table.column("prompt")
        self.num_empty += int(np.count_nonzero(blank(prompts).to_numpy())) - prompts.null_count
        width, height = _whole(table, "width", _UNSTATED), _whole(table, "height", _UNSTATED)
        pairs = (width << 32) | ((height + 1) & 0xFFFFFFFF)
        for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
            size = (_stated(int(pair) >> 32), _stated((int(pair) & 0xFFFFFFFF) - 1))
            self.sizes[size] = self.sizes.get(size, 0) + int(count)
        for setting, rows in scheduler_settings(table, self.limits.scheduler):
            if setting in self.schedulers or len(self.schedulers) < KEPT_SCHEDULERS:
                self.schedulers[setting] = self.schedulers.get(setting, 0) + rows
        self.steps.update(_counted(table, "num_inference_steps", 1))
        self.guidance.update(_counted(table, "guidance_scale", TENTHS))

    def notes(self) -> tuple[str, ...]:
        """Sentences about rows that are allowed and may still be slips."""
        weighted = weighted_note(self.num_weighted)
        if not self.num_empty:
            return weighted
        rows = "1 row has" if self.num_empty == 1 else f"{self.num_empty:,} rows have"
        return (f"{rows} an empty prompt and will be drawn without one", *weighted)


def _batches(
    ref: ManifestRef, columns: tuple[str, ...], num_rows: int, storage: Storage
) -> Iterator[tuple[pa.Table, int]]:
    first_row = 0
    for table in iter_tables(ref, columns, storage=storage, lenient=True):
        if first_row >= num_rows:
            return
        yield table.slice(0, num_rows - first_row), first_row
        first_row += table.num_rows


def _whole(table: pa.Table, name: str, default: int) -> NDArray[np.int64]:
    """An integer column with nulls filled; values that are no int32 count as the default."""
    if name not in table.column_names:
        return np.full(table.num_rows, default, np.int64)
    values = table.column(name).cast(pa.float64()).to_numpy()
    with np.errstate(invalid="ignore"):
        fits = np.abs(values) < 2**31
        return np.where(fits, values, default).astype(np.int64)


def _counted(table: pa.Table, name: str, parts: int) -> dict[Any, int]:
    """Values of a number column, in `parts` of one and rounded up, to the rows that state them."""
    if name not in table.column_names:
        return {}
    values = table.column(name).cast(pa.float64()).drop_null().to_numpy()
    finite = values[np.abs(values) < LARGEST_COUNTED]
    found, rows = np.unique(np.ceil(finite * parts), return_counts=True)
    return {value / parts: int(count) for value, count in zip(found.tolist(), rows, strict=True)}


def _stated(value: int) -> int | None:
    return None if value == _UNSTATED else value


def _add_identities(repeats: Repeats, table: pa.Table, first_row: int) -> None:
    rows = np.arange(first_row, first_row + table.num_rows)
    if "id" not in table.column_names:
        repeats.add(content_digests(table), rows)
        return
    ids = table.column("id")
    # An empty id is a fault of its own, not a repeat of another empty one.
    stated = ~blank(ids).to_numpy()
    repeats.add(id_digests(ids.filter(pa.array(stated))), rows[stated])


def _in_row_order(repeats: Repeats) -> tuple[Rows, Rows, Rows]:
    parts = list(repeats.found())
    if not parts:
        return _NO_ROWS, _NO_ROWS, _NO_ROWS
    rows, firsts, numbers = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows)
    return rows[order], firsts[order], numbers[order]


def _report_duplicates(
    manifest: Manifest, rows: Rows, firsts: Rows, faults: Faults, storage: Storage
) -> None:
    """Name both rows of duplicate ids: of the first ones, or of all where all are asked for."""
    if faults.wants_all:
        faults.mark_repeats(len(rows), _all_duplicates(manifest, rows, firsts, storage))
        return
    named = []
    for row, first in zip(rows[: faults.KEPT].tolist(), firsts.tolist(), strict=False):
        value = read_rows(manifest.ref, row, row + 1, ["id"], storage).column(0)[0]
        named.append((row, first, str(value.as_py())))
    faults.mark_repeats(len(rows), named)


def _all_duplicates(
    manifest: Manifest, rows: Rows, firsts: Rows, storage: Storage
) -> Iterator[tuple[int, int, str]]:
    """(row, earlier row, id) of each, read in one pass over the ids."""
    if not len(rows):
        return
    for batch, first_row in _batches(manifest.ref, ("id",), int(rows[-1]) + 1, storage):
        low, high = np.searchsorted(rows, (first_row, first_row + batch.num_rows))
        ids = batch.column(0).take(pa.array(rows[low:high] - first_row)).to_pylist()
        yield from zip(
            rows[low:high].tolist(), firsts[low:high].tolist(), map(str, ids), strict=True
        )

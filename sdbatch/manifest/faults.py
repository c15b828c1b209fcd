"""What can be wrong with a row: each rule once, over whole columns.

A rule is a mask over a batch of rows and the words for the rows it marks. Nothing here
reads files or stops at the first fault; `manifest.checks` brings the batches.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.bad_rows import emptied
from sdbatch.manifest.fault_log import FaultLog
from sdbatch.manifest.later import asking, later_reason
from sdbatch.manifest.micro_conditioning import NOT_TOLD, micro_fault
from sdbatch.manifest.prompt_columns import TEXTS, syntax_mask, undrawable
from sdbatch.manifest.prompt_columns import text_fault as prompt_text_fault
from sdbatch.manifest.prompt_syntax import A1111, PLAIN, SYNTAXES, syntax_fault
from sdbatch.manifest.scheduler_checks import SCHEDULER_COLUMNS, scheduler_faults
from sdbatch.manifest.schema import (
    CANONICAL,
    MAX_IMAGES_PER_PROMPT,
    MAX_SEED,
    MAX_SIZE_PX,
    TASK,
    blank,
    json_object_fault,
    scheduler_fault,
)
from sdbatch.manifest.texts import broken_texts, holds_text, text_fault

NO_TRUE_CFG = "this model is guided by guidance_scale: use that, leave it empty or write 1"

Mask = NDArray[np.bool_]
Reason = Callable[[object], str]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run can draw.

    Attributes:
        model: The job's model; rows that name one must name this.
        size_multiple_px: Width and height must be multiples of this.
        num_train_timesteps: Most steps a row may ask for.
        schedulers: Class names that can be drawn with.
        reserved: Column names the dataset needs for itself.
        num_images_per_prompt: Pictures of a row that does not say how many.
        unfit: Schedulers that exist and cannot be drawn with, each with the reason.
        scheduler: The one of rows that name none.
        options: Scheduler to the keys its configuration may have.
        prompt_syntax: That of rows that name none.
        true_cfg: `true_cfg_scale` guides this model; else `guidance_scale` does.
        max_size_px: The most that width and height may be.
        micro: The model is told of sizes, so rows may have a `micro_conditioning`.
        only: Columns to the values that the model can be drawn with, where not all can.
    """

    model: str
    size_multiple_px: int
    num_train_timesteps: int
    schedulers: frozenset[str]
    reserved: frozenset[str] = frozenset()
    num_images_per_prompt: int = 1
    unfit: Mapping[str, str] = field(default_factory=dict)
    scheduler: str = ""
    options: Mapping[str, frozenset[str]] = field(default_factory=dict)
    prompt_syntax: str = PLAIN
    true_cfg: bool = False
    micro: bool = False
    max_size_px: int = MAX_SIZE_PX
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


class Faults:
    """The first problems of a manifest in row order, and the count of all.

    Args:
        manifest: Its name, for messages.
        log: Told of every problem; None keeps the first ones alone.

    Attributes:
        marked: Which cells of the batch in hand were marked, by column.
    """

    KEPT = 20

    def __init__(self, manifest: str, log: FaultLog | None = None) -> None:
        self.manifest = manifest
        self.total = 0
        self.marked: dict[str, Mask] = {}
        self._log = log
        self._kept: list[tuple[int, str, str, str]] = []

    def begin_batch(self) -> None:
        """Forget which cells of the last batch were marked; problems stay."""
        self.marked = {}

    def mark(
        self, mask: Mask, first_row: int, column: str, values: pa.ChunkedArray, reason: Reason
    ) -> None:
        """Take in the rows that a rule marks."""
        places = np.flatnonzero(mask)
        if not len(places):
            return
        self.total += len(places)
        self.marked[column] = mask | self.marked.get(column, False)
        for place in (places if self._log else places[: self.KEPT]).tolist():
            value = values[place]
            seen = value.as_py() if value.is_valid else None
            shown = "" if seen is None else _shown(seen)
            self._keep(first_row + place, column, shown, reason(seen))

    @property
    def wants_all(self) -> bool:
        """Whether every problem is written down, not the first ones alone."""
        return self._log is not None

    def mark_repeats(self, total: int, named: Iterable[tuple[int, int, str]]) -> None:
        """Take in ids that stand twice: how many, and (row, earlier row, id) of those to name."""
        self.total += total
        for row, earlier, value in named:
            reason = f"stands at row {earlier} already, ids must be unique"
            self._keep(row, "id", _shown(value), reason)

    def mark_cell(self, row: int, column: str, value: str, reason: str) -> None:
        """Take in a problem of a cell that was found before; `value` is shown as it is."""
        self.total += 1
        self._keep(row, column, value, reason)

    def mark_whole(self, problem: ManifestError) -> None:
        """Take in a problem of a column, or of all of the manifest."""
        self.total += 1
        self._keep(problem.row, problem.column, problem.value, problem.reason)

    def first(self) -> tuple[ManifestError, ...]:
        """The first problems, by row."""
        return tuple(ManifestError(self.manifest, *fault) for fault in self._kept)

    def _keep(self, row: int, column: str, value: str, reason: str) -> None:
        if self._log:
            self._log.add(row, column, value, reason)
        if len(self._kept) < self.KEPT or (row, column, value, reason) < self._kept[-1]:
            self._kept.append((row, column, value, reason))
            self._kept = heapq.nsmallest(self.KEPT, self._kept)


def find_faults(table: pa.Table, first_row: int, limits: Limits, faults: Faults) -> None:
    """Mark every fault in a batch of rows that holds canonical columns only."""
    broken = _mark_broken_texts(table, first_row, faults)
    table = emptied(table, broken)
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_null(column.type):
            column = column.cast(CANONICAL[name])
        if not pa.types.is_string(CANONICAL[name]):
            _mark_number(name, column, first_row, limits, faults)
        elif name in ("id", "prompt"):
            missing = (pc.is_null(column) if name == "prompt" else blank(column)).to_numpy()
            unread = broken.get(name, np.False_)  # said already
            faults.mark(missing & ~unread, first_row, name, column, _missing(name))
        elif name not in ("negative_prompt", "schedule_type"):
            _mark_word(name, column.cast(pa.string()), first_row, limits, faults)
    if any(name in table.column_names for name in SCHEDULER_COLUMNS):
        _mark_schedulers(table, first_row, limits, faults)
    _mark_others(table, first_row, limits, faults)
    _mark_prompts(table, first_row, limits, faults)
    if "seed" in table.column_names:
        _mark_seed_overflow(table, first_row, limits, faults)


def mark_texts(table: pa.Table, first_row: int, faults: Faults) -> None:
    """Mark every value of these columns that is, or holds, a text that is no UTF-8."""
    for name in table.column_names:
        column = table.column(name)
        if holds_text(column.type):
            # The broken value itself cannot be shown.
            shown = pa.chunked_array([pa.nulls(len(column))])
            reason = always(text_fault(column.type))
            faults.mark(broken_texts(column), first_row, name, shown, reason)


def size_fault(value: object, multiple_px: int, max_px: int = MAX_SIZE_PX) -> str:
    """Words for a width or height that the model cannot draw."""
    right = f"must be a multiple of {multiple_px} from {multiple_px} to {max_px}"
    if not isinstance(value, int | float) or not multiple_px <= value <= max_px:
        return right
    below = int(value) // multiple_px * multiple_px
    above = below + multiple_px
    near = f"{below} or {above}" if above <= max_px else f"{below}"
    return f"{right}, for example {near}"


def _mark_number(
    name: str, column: pa.ChunkedArray, first_row: int, limits: Limits, faults: Faults
) -> None:
    known, values = _numbers(column)
    if name in ("guidance_scale", "true_cfg_scale"):
        # float32 holds it in the dataset: what overflows there is infinite too.
        good = (values >= 0) & (values <= np.finfo(np.float32).max)
        words = "must be a finite number, 0 or more"
    else:
        low, high = _range(name, limits)
        # Below high + 1, because a float cannot hold 2**63 - 1 and would round up to pass.
        good = (values >= low) & (values < high + 1)
        if values.dtype.kind == "f":
            good &= np.floor(values) == values
        words = f"must be a whole number from {low} to {high}"
    if name in ("width", "height"):
        step, most = limits.size_multiple_px, limits.max_size_px
        good[good] &= values[good].astype(np.int64) % step == 0
        wrong = known & ~good
        faults.mark(wrong, first_row, name, column, lambda value: size_fault(value, step, most))
    else:
        faults.mark(known & ~good, first_row, name, column, lambda _: words)
    if name == "true_cfg_scale" and not limits.true_cfg:
        asking = known & good & (values != 1)
        faults.mark(asking, first_row, name, column, always(NO_TRUE_CFG))


def _range(name: str, limits: Limits) -> tuple[int, int]:
    return {
        "seed": (0, MAX_SEED),
        "width": (limits.size_multiple_px, limits.max_size_px),
        "height": (limits.size_multiple_px, limits.max_size_px),
        "num_inference_steps": (1, limits.num_train_timesteps),
        "num_images_per_prompt": (1, MAX_IMAGES_PER_PROMPT),
    }[name]


def _mark_word(
    name: str, column: pa.ChunkedArray, first_row: int, limits: Limits, faults: Faults
) -> None:
    """Rules for columns with few different values: each value is judged once."""

    def fault(value: object) -> str:
        text = str(value)
        if name == "scheduler":
            return scheduler_fault(text, limits.schedulers, limits.unfit)
        if name == "scheduler_config":
            return json_object_fault(text)
        if name == "prompt_syntax":
            return "" if text in SYNTAXES else syntax_fault()
        if name == "micro_conditioning":
            return micro_fault(text) if limits.micro else NOT_TOLD
        right = limits.model if name == "model" else TASK
        if text == right:
            return ""
        return f"this version draws all rows of a run with {name} '{right}', drop the column"

    bad = [value for value in pc.unique(column).to_pylist() if value and fault(value)]
    if bad:
        mask = pc.is_in(column, value_set=pa.array(bad, pa.string()))
        faults.mark(mask.to_numpy(), first_row, name, column, fault)


def only_fault(values: Sequence[Any]) -> str:
    """Words for a value that a model cannot be drawn with."""
    if tuple(values) == ("",):
        return "this model takes none, leave it empty"
    if tuple(values) == (False,):
        return "this model is drawn without it"
    shown = (str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return f"this model is drawn with {' or '.join(shown)} alone"


def _mark_others(table: pa.Table, first_row: int, limits: Limits, faults: Faults) -> None:
    """Values that this model cannot be drawn with, though others can."""
    for name, values in limits.only.items():
        if name in table.column_names and name != "scheduler":  # judged by its class, above
            column = table.column(name)
            stated = ~blank(column).to_numpy()
            known = pc.is_in(column, value_set=pa.array(values).cast(column.type)).to_numpy()
            faults.mark(stated & ~known, first_row, name, column, always(only_fault(values)))


def _mark_schedulers(table: pa.Table, first_row: int, limits: Limits, faults: Faults) -> None:
    """Options that the row's scheduler does not take, and spacings that nobody knows."""
    for mask, name, reason in scheduler_faults(table, limits.scheduler, limits.options):
        faults.mark(mask, first_row, name, table.column(name), always(reason))


def mark_later(table: pa.Table, first_row: int, faults: Faults) -> None:
    """Mark every value that asks for what this version cannot draw."""
    for name in table.column_names:
        column = table.column(name)
        reason = always(later_reason(name))
        faults.mark(asking(name, column), first_row, name, column, reason)


def _mark_prompts(table: pa.Table, first_row: int, limits: Limits, faults: Faults) -> None:
    """Texts in A1111's syntax that ask for what cannot be drawn."""
    rows = syntax_mask(table, limits.prompt_syntax, A1111)
    for name in TEXTS:
        if name in table.column_names:
            column = table.column(name)
            wrong = undrawable(column, rows)
            faults.mark(wrong, first_row, name, column, lambda text: prompt_text_fault(str(text)))


def _mark_seed_overflow(table: pa.Table, first_row: int, limits: Limits, faults: Faults) -> None:
    """Picture k of a row is drawn with seed + k, which must stay a seed too."""
    column = table.column("seed")
    known, seeds = _numbers(column)
    fits = known & (seeds >= 0) & (seeds < MAX_SEED + 1)
    if "num_images_per_prompt" in table.column_names:
        stated, images = _numbers(table.column("num_images_per_prompt"))
        extra = np.where(stated, images, limits.num_images_per_prompt) - 1
    else:
        extra = np.full(len(seeds), limits.num_images_per_prompt - 1)
    room = MAX_SEED - np.where(fits, seeds, 0).astype(np.int64)
    words = f"the seed of the row's last picture passes {MAX_SEED}, take a smaller one"
    faults.mark(fits & (room < extra), first_row, "seed", column, lambda _: words)


def _numbers(column: pa.ChunkedArray) -> tuple[Mask, NDArray[Any]]:
    """Which values are there, and the values with 0 for those that are not."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.int64())
    known = pc.is_valid(column).to_numpy()
    return known, pc.fill_null(column, pa.scalar(0, column.type)).to_numpy()


def _mark_broken_texts(table: pa.Table, first_row: int, faults: Faults) -> dict[str, Mask]:
    """Mark texts that are no UTF-8 and say which: no other rule can read them."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        pass
    else:
        return {}
    before = faults.total
    mark_texts(table, first_row, faults)
    if faults.total == before:
        raise ManifestError(faults.manifest, first_row, "", "", "damaged Parquet: invalid values")
    texts = (name for name in table.column_names if holds_text(table.schema.field(name).type))
    return {name: broken_texts(table.column(name)) for name in texts}


def always(words: str) -> Reason:
    """The same words for every value."""
    return lambda _: words


def _missing(name: str) -> Reason:
    if name == "id":
        return lambda _: "is empty, give every row an id or drop the column"
    return lambda _: "is null, every row needs a prompt"


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

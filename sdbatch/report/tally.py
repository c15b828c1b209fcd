"""Columns of any dataset, counted in one pass and in the memory of a few numbers each.

A column is counted value by value while it has few values. A numeric one with more is
counted in ranges of equal width, which double whenever the values reach further.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import types

FEW = 24
"""Most different values that are counted one by one."""
RANGES = 48
TEXT_CHARS = 80
"""Longer texts are sentences, of which there are never few."""

NOT_COUNTED = frozenset(
    [
        *("key", "row_id", "row_index", "image_index", "row_hash", "shard_id", "seed", "prompt"),
        *("sha256", "pixel_sha256", "dhash", "created_at", "error_message", "traceback", "image"),
    ]
)
"""Columns that name a picture, or say of each one something else."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How often a column has which values.

    Attributes:
        bars: (value or range as people read it, pictures); ranges in order and without gaps.
        ranges: Whether bars are ranges of numbers.
        values: The value of each bar, for filters; empty for ranges.
        low: Smallest value of a numeric column; None for others. `high` likewise.
        missing: Pictures of files that have the column, and yet have no value in it.
    """

    name: str
    bars: tuple[tuple[str, int], ...]
    ranges: bool
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    missing: int = 0

    @property
    def constant(self) -> bool:
        """Whether every picture has the same value."""
        return len(self.bars) + bool(self.missing) <= 1


class Ranges:
    """Numbers counted in at most `RANGES` ranges, each as wide as a power of two."""

    def __init__(self) -> None:
        self._counts: dict[float, int] = {}
        self._width = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Count finite numbers."""
        if not len(numbers):
            return
        self.low = min(self.low, float(numbers.min()))
        self.high = max(self.high, float(numbers.max()))
        self._width = self._width or _width(self.low, self.high)
        while self.high / 2 - self.low / 2 > self._width * RANGES:
            self._double()
        places, counts = np.unique(np.floor(numbers / self._width), return_counts=True)
        for place, count in zip(places.tolist(), counts.tolist(), strict=True):
            self._counts[place] = self._counts.get(place, 0) + count
        while max(self._counts) - min(self._counts) >= RANGES:
            self._double()

    def bars(self) -> Iterator[tuple[str, int]]:
        """Ranges from the lowest to the highest, empty ones between them included."""
        if not self._counts:
            return
        first, last = int(min(self._counts)), int(max(self._counts))
        for place in range(first, last + 1):
            low, high = place * self._width, (place + 1) * self._width
            yield f"{low:.6g} to {high:.6g}", self._counts.get(place, 0)

    def _double(self) -> None:
        merged: dict[float, int] = {}
        for place, count in self._counts.items():
            half = math.floor(place / 2)
            merged[half] = merged.get(half, 0) + count
        self._counts, self._width = merged, self._width * 2


def _width(low: float, high: float) -> float:
    """A power of two with which these numbers fill many of the ranges."""
    span = min((high - low) or abs(low) or 1.0, 1e300)
    return float(2.0 ** max(math.ceil(math.log2(span / RANGES)), -1000))


class ColumnTally:
    """One column, counted batch by batch."""

    def __init__(self, field: pa.Field) -> None:
        self.name = field.name
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        self._numeric = types.is_integer(kind) or types.is_floating(kind)
        self._values: dict[Any, int] | None = {}
        self._ranges = Ranges()
        self._missing = 0

    def add(self, column: pa.Array) -> None:
        """Count a batch of values."""
        self._missing += column.null_count
        if self._values is not None:
            self._count(column.drop_null())
        if self._numeric:
            numbers = column.drop_null().cast(pa.float64(), safe=False).to_numpy()
            self._ranges.add(numbers[np.isfinite(numbers)])

    def result(self) -> Distribution | None:
        """What was counted; None where there are many values that are no numbers."""
        low, high = self._ranges.low, self._ranges.high
        known = self._numeric and low <= high
        bounds = (low if known else None, high if known else None)
        if self._values is None:
            if not self._numeric or bounds[0] is None:
                return None
            bars = tuple(self._ranges.bars())
            return Distribution(self.name, bars, True, (), bounds[0], bounds[1], self._missing)
        if not self._values:
            return None
        ordered = sorted(self._values.items(), key=self._rank)
        bars = tuple((shown(value), count) for value, count in ordered)
        values = tuple(value for value, _ in ordered)
        return Distribution(self.name, bars, False, values, bounds[0], bounds[1], self._missing)

    def _count(self, column: pa.Array) -> None:
        assert self._values is not None
        for one in pc.value_counts(column).to_pylist():
            value = one["values"]
            if isinstance(value, float):
                value = float(f"{value:.7g}")  # a float32 as it was written
            self._values[value] = self._values.get(value, 0) + one["counts"]
            if len(self._values) > FEW or (isinstance(value, str) and len(value) > TEXT_CHARS):
                self._values = None
                return

    def _rank(self, item: tuple[Any, int]) -> tuple[Any, ...]:
        value, count = item
        return (value,) if self._numeric else (-count, str(value))


class Tallies:
    """All columns of a dataset that can be counted, in the order in which they come."""

    def __init__(self) -> None:
        self._columns: dict[str, ColumnTally] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch of rows; batches of failed rows lack columns."""
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if countable(field):
                self._columns.setdefault(field.name, ColumnTally(field)).add(column)

    def results(self) -> list[Distribution]:
        """Distributions of the columns that have one."""
        found = (tally.result() for tally in self._columns.values())
        return [each for each in found if each is not None]


def countable(field: pa.Field) -> bool:
    """Whether a column can have few values or be a number."""
    if field.name in NOT_COUNTED:
        return False
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    simple: Iterable[Any] = (types.is_integer, types.is_floating, types.is_boolean)
    return any(is_kind(kind) for is_kind in simple) or types.is_string(kind)


def shown(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.7g}"
    return str(value) if value != "" else "(empty)"

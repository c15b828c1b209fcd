"""Which picture stands in which cell of a grid, read from a dataset in two passes.

The first one reads a few small columns and remembers of every cell its first picture by key
and how many there are; the second reads the pictures of those, shard by shard.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from PIL import Image

from sdbatch.audit.pictures import shard_rows
from sdbatch.dataset.images import decode
from sdbatch.dataset.schema import IMAGE
from sdbatch.dataset.where import unknown_column
from sdbatch.errors import InputError
from sdbatch.report.tally import shown
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store

MAX_VALUES = 64
"""Most columns, and most rows, of a grid."""
MAX_PAGES = 100
MAX_CELLS = 10_000
"""Most cells of all pages together; memory holds a small copy of each."""

Place = tuple[Any, ...]
"""Value of the page, of the column and of the row; None where there is none."""


@dataclass(slots=True)
class Cell:
    """Pictures of one place.

    Attributes:
        key: Of the first one; empty when all of them failed.
        count: Pictures that were drawn.
        failed: Pictures that could not be.
        small: A small copy of the first one, as a PNG; empty until it is read.
    """

    key: str = ""
    shard: tuple[str, int] = ("", -1)
    count: int = 0
    failed: int = 0
    small: bytes = b""


@dataclass(frozen=True, slots=True)
class Cells:
    """All cells of all pages.

    Attributes:
        pages: Values of the page column in order; `columns` and `rows` likewise. Without
            such a column there is one value, None.
    """

    pages: Sequence[Any]
    columns: Sequence[Any]
    rows: Sequence[Any]
    found: dict[Place, Cell]


@dataclass(slots=True)
class _Axes:
    """The columns of the axes, and the values that were met."""

    names: tuple[str, str, str]
    values: tuple[set[Any], set[Any], set[Any]] = field(
        default_factory=lambda: (set(), set(), set())
    )

    @property
    def wanted(self) -> list[str]:
        return list(dict.fromkeys(name for name in self.names if name))

    def place(self, row: dict[str, Any]) -> Place:
        """Where a row belongs; refuses values beyond what a grid holds."""
        place = tuple(_simple(row[name]) if name else None for name in self.names)
        for name, met, value, most in zip(
            self.names, self.values, place, (MAX_PAGES, MAX_VALUES, MAX_VALUES), strict=True
        ):
            met.add(value)
            if len(met) > most:
                raise InputError(
                    f"column '{name}': has more than {most} values, which is no grid: "
                    "name a column of fewer values"
                )
        return place


def find_cells(store: Store, runs: Sequence[str], names: tuple[str, str, str]) -> Cells:
    """The first pass.

    Args:
        names: Columns of pages, columns and rows of the grid; empty for none.

    Raises:
        InputError: There is no run or no such column, or it has too many values.
        DamagedError: A file cannot be read.
    """
    axes, cells = _Axes(names), dict[Place, Cell]()
    for run in runs:
        _demand_run(store, run)
        for record in RunFolder(store, run).records():
            shard = (run, record.result.shard_id)
            for kind in ("data", "errors"):
                for table in _tables(shard_rows(store, record, kind=kind), axes.wanted, kind):
                    _add(cells, axes, table, shard, kind)
    if not any(cell.count for cell in cells.values()):
        raise InputError(f"{store.url}: holds no picture yet")
    if len(cells) > MAX_CELLS:
        most = f"at most {MAX_CELLS:,}"
        raise InputError(f"{len(cells):,} cells: {most}, name a column of fewer values")
    pages, columns, rows = (sorted(met, key=_rank) for met in axes.values)
    return Cells(pages, columns, rows, cells)


def read_small(store: Store, runs: Sequence[str], cells: Cells, cell_px: int) -> None:
    """The second pass: small copies of the first picture of every cell.

    Raises:
        DamagedError: A file or a picture cannot be read.
    """
    wanted: dict[tuple[str, int], dict[str, Cell]] = {}
    for cell in cells.found.values():
        if cell.count:
            wanted.setdefault(cell.shard, {})[cell.key] = cell
    for run in runs:
        for record in RunFolder(store, run).records():
            left = wanted.get((run, record.result.shard_id), {})
            if not left:
                continue
            for batch in shard_rows(store, record, ["key"], pictures=True):
                for place, key in enumerate(batch.column("key").to_pylist()):
                    if key in left:
                        data = batch.column(IMAGE.name)[place].as_py()["bytes"]
                        left.pop(key).small = _small(data, key, cell_px)
                if not left:
                    break


def label(value: Any) -> str:
    """A value of an axis as it is written beside it."""
    return "(none)" if value is None else shown(value)


def _demand_run(store: Store, run: str) -> None:
    if RunFolder(store, run).read_job() is None:
        raise InputError(f"{store.url}: holds no run '{run}', name the output of sdbatch render")


def _tables(
    batches: Iterator[pa.RecordBatch], names: Sequence[str], kind: str
) -> Iterator[pa.Table]:
    for batch in batches:
        absent = [name for name in names if name not in batch.schema.names]
        if absent and kind == "data":
            raise InputError(unknown_column(absent[0], batch.schema.names))
        if not absent:  # failed rows do not say what drew them
            yield pa.table(batch).select(list(dict.fromkeys(["key", *names])))


def _add(
    cells: dict[Place, Cell], axes: _Axes, table: pa.Table, shard: tuple[str, int], kind: str
) -> None:
    sums = [("key", "min"), ("key", "count")]
    grouped = table.group_by(axes.wanted, use_threads=False).aggregate(sums)
    for row in grouped.to_pylist():
        cell = cells.setdefault(axes.place(row), Cell())
        if kind == "errors":
            cell.failed += row["key_count"]
            continue
        if not cell.count or row["key_min"] < cell.key:
            cell.key, cell.shard = row["key_min"], shard
        cell.count += row["key_count"]


def _simple(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")  # a float32 as it was written
    return value if isinstance(value, str | int | None) else str(value)


def _rank(value: Any) -> tuple[Any, ...]:
    """Numbers by size, texts as people count them (`w2` before `w10`), what is missing last."""
    if value is None:
        return (2,)
    if isinstance(value, int | float):
        return (0, value)
    parts = re.split(r"(\d+)", value)
    return (1, [(int(part), "") if part.isdigit() else (-1, part) for part in parts], value)


def _small(data: bytes, key: str, cell_px: int) -> bytes:
    picture = Image.fromarray(decode(data, f"picture {key}"))
    scale = cell_px / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    target = io.BytesIO()
    picture.resize((width, height), Image.Resampling.LANCZOS).save(target, "PNG", compress_level=1)
    return target.getvalue()

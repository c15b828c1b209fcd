"""Grids: pictures of a dataset side by side, over two of its columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdbatch.audit.across import chosen_runs
from sdbatch.audit.plain_text import plain, shortened
from sdbatch.dataset.figures import save_png
from sdbatch.errors import InputError
from sdbatch.report.grid_cells import Cells, find_cells, label, read_small
from sdbatch.report.grid_sheet import Sheet, cell_size, draw_sheet
from sdbatch.storage.store import Store, open_store

VALUE_CHARS = 160


@dataclass(frozen=True, slots=True)
class GridPage:
    """One file of a grid.

    Attributes:
        value: Of the page column, as it stands on the page; empty without one.
        cells: Places of the page; in `missing` of them there is no picture.
    """

    file: str
    value: str
    columns: int
    rows: int
    cells: int
    missing: int

    def describe(self) -> str:
        """One line for people."""
        gaps = f", {self.missing:,} without a picture" if self.missing else ""
        line = f"{self.file}: {self.columns} x {self.rows} cells{gaps}"
        return f"{line}: {plain(shortened(self.value, VALUE_CHARS))}" if self.value else line


@dataclass(frozen=True, slots=True)
class Grid:
    """The files of a grid, in the order of their pages."""

    pages: tuple[GridPage, ...]

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `grid --json` prints them."""
        return asdict(self)

    def describe(self) -> str:
        """One line a file."""
        return "\n".join(page.describe() for page in self.pages)


def grid(
    dataset: str | Path,
    *,
    x: str,
    y: str | None = None,
    page: str | None = None,
    out: str | Path = "grid.png",
    run: str | None = None,
) -> Grid:
    """Draw a grid of a dataset's pictures, finished or not.

    Of several pictures in one place the first by key is shown, with their number.

    Args:
        dataset: Folder or URL of the dataset.
        x: Column whose values stand from left to right.
        y: Column whose values stand from top to bottom.
        page: Column with one page for each of its values: `grid-1.png`, `grid-2.png`, ...
        out: Local file, a PNG.
        run: Only pictures of this run; None takes those of all runs.

    Raises:
        InputError: There is no run or no such column, or it has too many values.
        StorageError: The dataset cannot be read, or a page not be written.
    """
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise InputError(f"--out {path}: name a file that ends in .png")
    store = open_store(dataset)
    runs = chosen_runs(store, run)
    cells = find_cells(store, runs, (page or "", x, y or ""))
    read_small(store, runs, cells, cell_size(len(cells.columns), len(cells.rows)))
    return Grid(tuple(_pages(store, cells, (page or "", x, y or ""), path)))


def _pages(
    store: Store, cells: Cells, names: tuple[str, str, str], path: Path
) -> Iterator[GridPage]:
    by, x, y = names
    dataset = store.url.rstrip("/").rsplit("/", 1)[-1]
    for number, value in enumerate(cells.pages, 1):
        sheet = Sheet(
            title=f"{by}: {label(value)}" if by else dataset,
            x=x,
            y=y,
            columns=[label(column) for column in cells.columns],
            rows=[label(row) for row in cells.rows],
            cells=[
                [cells.found.get((value, column, row)) for column in cells.columns]
                for row in cells.rows
            ],
        )
        place = path.with_name(f"{path.stem}-{number}{path.suffix}") if by else path
        flat = [cell for row in sheet.cells for cell in row]
        yield GridPage(
            file=save_png(draw_sheet(sheet), place),
            value=label(value) if by else "",
            columns=len(sheet.columns),
            rows=len(sheet.rows),
            cells=len(flat),
            missing=sum(cell is None or not cell.count for cell in flat),
        )

"""A grid of pictures as one picture: equal cells, a label at every column and row.

Texts are set in the font that Pillow carries; what is too long ends in an ellipsis.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from sdbatch.dataset.figures import FRAME, INK, PAPER, printable
from sdbatch.report.grid_cells import Cell

CELL_PX, LEAST_CELL_PX = 256, 64
MAX_SIDE_PX = 6_000
"""No page is wider or higher, but for its labels."""
GAP_PX = 10
MARGIN_PX = 28
LABEL_PX = 240
"""Most room for the labels of rows."""
_TITLE_PX, _FONT_PX, _SMALL_PX = 19, 15, 12
_TITLE_LINES = 2
_TEXT_CHARS = 500
_SOFT = (112, 114, 120)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page of a grid.

    Attributes:
        title: What all of its pictures share; may be empty.
        x: Name of what differs from column to column; `y` from row to row, empty for none.
        columns: Their labels; `rows` likewise.
        cells: One list a row; None where nothing was planned.
    """

    title: str
    x: str
    y: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[Cell | None]]


def cell_size(columns: int, rows: int) -> int:
    """Sides of a cell in pixels, so that a page of so many stays within bounds."""
    side = MAX_SIDE_PX // max(columns, rows, 1) - GAP_PX
    return max(min(CELL_PX, side), LEAST_CELL_PX)


def draw_sheet(sheet: Sheet) -> Image.Image:
    """Draw one page."""
    cell = cell_size(len(sheet.columns), len(sheet.rows))
    font = _font(_FONT_PX)
    left = MARGIN_PX + (_label_width(sheet, font) + GAP_PX * 2 if sheet.y else 0)
    width = left + len(sheet.columns) * (cell + GAP_PX) - GAP_PX + MARGIN_PX
    title = _wrapped(sheet.title, _font(_TITLE_PX), width - 2 * MARGIN_PX)
    top = MARGIN_PX + len(title) * 26 + (14 if title else 0) + 2 * 24 + 6
    height = top + len(sheet.rows) * (cell + GAP_PX) - GAP_PX + MARGIN_PX
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(title):
        place = (MARGIN_PX, MARGIN_PX + number * 26)
        draw.text(place, line, fill=INK, font=_font(_TITLE_PX))
    _draw_labels(draw, sheet, font, (left, top), cell)
    for row, cells in enumerate(sheet.cells):
        for column, found in enumerate(cells):
            place = (left + column * (cell + GAP_PX), top + row * (cell + GAP_PX))
            _draw_cell(page, draw, found, place, cell)
    return page


def cut(text: str, font: _Font, width: float) -> str:
    """A text in one line of at most so many pixels, with an ellipsis where it was cut."""
    text = printable(text[:_TEXT_CHARS])
    if font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(f"{text[:middle].rstrip()}…") <= width:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low].rstrip()}…"


def _label_width(sheet: Sheet, font: _Font) -> int:
    longest = max(font.getlength(printable(name[:_TEXT_CHARS])) for name in (*sheet.rows, sheet.y))
    return min(int(longest) + 2, LABEL_PX)


def _draw_labels(
    draw: ImageDraw.ImageDraw, sheet: Sheet, font: _Font, at: tuple[int, int], cell: int
) -> None:
    left, top = at
    bold = (left, top - 50)
    draw.text(bold, cut(sheet.x, font, cell * len(sheet.columns)), fill=_SOFT, font=font)
    for number, name in enumerate(sheet.columns):
        middle = left + number * (cell + GAP_PX) + cell // 2
        draw.text((middle, top - 24), cut(name, font, cell), fill=INK, font=font, anchor="ma")
    if not sheet.y:
        return
    room = left - MARGIN_PX - 2 * GAP_PX
    draw.text((MARGIN_PX, top - 24), cut(sheet.y, font, room), fill=_SOFT, font=font)
    for number, name in enumerate(sheet.rows):
        middle = top + number * (cell + GAP_PX) + cell // 2
        draw.text((MARGIN_PX, middle), cut(name, font, room), fill=INK, font=font, anchor="lm")


def _draw_cell(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    cell: Cell | None,
    place: tuple[int, int],
    side: int,
) -> None:
    left, top = place
    font = _font(_SMALL_PX)
    if cell is None or not cell.small:
        page.paste(_hatched(side), place)
        word = "failed" if cell and cell.failed else "missing"
        middle = (left + side // 2, top + side // 2)
        _badge(draw, word, font, (middle[0] - int(font.getlength(word)) // 2 - 6, middle[1] - 9))
        return
    draw.rectangle((left, top, left + side - 1, top + side - 1), fill=FRAME)
    with Image.open(io.BytesIO(cell.small)) as picture:
        across, down = picture.size
        page.paste(picture, (left + (side - across) // 2, top + (side - down) // 2))
    draw.rectangle((left, top, left + side - 1, top + side - 1), outline=FRAME)
    if cell.count > 1:
        word = f"1 of {cell.count:,}"
        wide = int(font.getlength(word)) + 12
        _badge(draw, word, font, (left + side - wide - 5, top + side - 23))


@cache
def _font(size_px: int) -> _Font:
    return ImageFont.load_default(size_px)


@cache
def _hatched(side: int) -> Image.Image:
    """A cell with lines across, so that nobody takes it for a picture."""
    tile = Image.new("RGB", (side, side), FRAME)
    draw = ImageDraw.Draw(tile)
    for start in range(0, 2 * side, 16):
        draw.line((start - side, side, start, 0), fill=PAPER)
    return tile


def _badge(draw: ImageDraw.ImageDraw, word: str, font: _Font, at: tuple[int, int]) -> None:
    left, top = at
    right = left + int(font.getlength(word)) + 12
    draw.rounded_rectangle((left, top, right, top + 18), 5, fill=PAPER)
    draw.text((left + 6, top + 9), word, fill=INK, font=font, anchor="lm")


def _wrapped(text: str, font: _Font, width: float) -> list[str]:
    """A few lines; the last one ends in an ellipsis where there is more."""
    words, lines = printable(text[:_TEXT_CHARS]).split(), list[str]()
    while words and len(lines) < _TITLE_LINES - 1:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line = f"{line} {words.pop(0)}"
        lines.append(cut(line, font, width))
    return [*lines, cut(" ".join(words), font, width)] if words else lines

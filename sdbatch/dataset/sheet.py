"""A contact sheet: the first pictures of a dataset with their prompts, on one page.

Pictures of any size fill cells of one size; small ones are enlarged, so that a model
that draws thumbnails can be judged by eye. Text is set in the font that Pillow carries,
in which every prompt can be drawn: what the font lacks shows as a box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sdbatch.dataset.figures import FRAME, INK, PAPER, printable
from sdbatch.errors import InputError

Labelled = tuple[NDArray[np.uint8], str]

CELL_PX = 256
_GAP_PX = 20
_MARGIN_PX = 28
_FONT_PX = 15
_LINE_PX = 20
_LINES = 3
_LABEL_GAP_PX = 8
_LABEL_CHARS = 400  # more than three lines ever hold; keeps wrapping quick


def contact_sheet(items: Sequence[Labelled], columns: int = 4) -> Image.Image:
    """Draw pictures in rows of equal cells, each with its label below.

    Args:
        items: (uint8 `[H, W, 3]`, label) in reading order.
        columns: Cells in a row; fewer when there are fewer pictures.

    Raises:
        InputError: There is no picture, or no column.
    """
    if not items or columns < 1:
        raise InputError(f"contact sheet of {len(items)} pictures in {columns} columns: give some")
    columns = min(columns, len(items))
    font = ImageFont.load_default(_FONT_PX)
    labels = [_wrap(label, font) for _, label in items]
    rows = [
        range(start, min(start + columns, len(items))) for start in range(0, len(items), columns)
    ]
    heights = [_row_height(labels[row.start : row.stop]) for row in rows]
    size = (
        2 * _MARGIN_PX + columns * CELL_PX + (columns - 1) * _GAP_PX,
        2 * _MARGIN_PX + sum(heights) + (len(rows) - 1) * _GAP_PX,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN_PX
    for row, height in zip(rows, heights, strict=True):
        for index in row:
            left = _MARGIN_PX + (index - row.start) * (CELL_PX + _GAP_PX)
            _place(sheet, draw, items[index][0], (left, top))
            text_top = top + CELL_PX + _LABEL_GAP_PX
            for line in labels[index]:
                draw.text((left, text_top), line, fill=INK, font=font)
                text_top += _LINE_PX
        top += height + _GAP_PX
    return sheet


def _row_height(labels: Sequence[Sequence[str]]) -> int:
    lines = max(len(label) for label in labels)
    return CELL_PX + (_LABEL_GAP_PX + lines * _LINE_PX if lines else 0)


def _place(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, pixels: NDArray[np.uint8], at: tuple[int, int]
) -> None:
    left, top = at
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = CELL_PX / max(picture.size)
    if scale != 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    right, bottom = left + CELL_PX, top + CELL_PX
    draw.rectangle((left - 1, top - 1, right, bottom), fill=FRAME)
    middle = (left + (CELL_PX - picture.width) // 2, top + (CELL_PX - picture.height) // 2)
    sheet.paste(picture, middle)


def _wrap(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Up to three lines that fit a cell; what does not fit ends in an ellipsis."""
    text = printable(label[:_LABEL_CHARS])
    lines: list[str] = []
    while text:
        line = _fitting(text, font)
        text = text[len(line) :].strip()
        if text and len(lines) == _LINES - 1:
            line, text = _shortened(line, font), ""
        lines.append(line.strip())
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The longest beginning that fits a cell, cut at a space where there is one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle].rstrip()) <= CELL_PX:
            low = middle
        else:
            high = middle - 1
    if low == len(text):
        return text
    space = text.rfind(" ", 0, low + 1)
    return text[: space if space > 0 else low]


def _shortened(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The line with an ellipsis at its end, cut at a space where there is one."""
    while line and font.getlength(f"{line}…") > CELL_PX:
        space = line.rfind(" ")
        line = line[:space] if space > 0 else line[:-1]
    return f"{line.rstrip(' ,.;')}…"

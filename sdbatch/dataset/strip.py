"""A strip: one row from noise to picture, drawn so that the process can be read off.

Columns are calls of the model, from left to right. Above stands what it saw, below what
it had in mind, beneath both how much of the finished picture was decided by then, in
coarse, middle and fine parts; at the right the finished picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sdbatch.dataset.figures import FRAME, INK, PAPER, printable

Pixels = NDArray[np.uint8]

CELL_PX = 168
MARGIN_PX, GAP_PX, SIDE_PX = 40, 14, 188
TITLE_PX, NAMES_PX, BAR_PX, CHART_PX = 76, 46, 34, 150
PALE, NOISE = (132, 132, 130), (168, 168, 164)
BANDS = (("coarse", (34, 66, 124)), ("middle", (38, 142, 140)), ("fine", (224, 122, 40)))
UNKNOWN = "this scheduler does not tell which finished picture a call foresees"
SMOOTH = 4  # the chart is drawn this many times as large and shrunk: lines without steps


@dataclass(frozen=True, slots=True)
class Column:
    """One call of the model.

    Attributes:
        name: What stands above it, such as `call 3`; `note` below that.
        noise: Share of noise in `seen`; None when nobody knows.
        seen: What the model saw.
        predicted: The picture it had in mind; None when nobody knows.
        decided: How far `predicted` is the finished picture already, per band, 0 to 1.
    """

    name: str
    note: str
    noise: float | None
    seen: Pixels
    predicted: Pixels | None = None
    decided: tuple[float, ...] = ()


def strip(
    columns: Sequence[Column],
    picture: Pixels,
    title: str,
    facts: str,
    bands: Sequence[str] = ("", "", ""),
) -> Image.Image:
    """Draw a strip.

    Args:
        columns: At least one, in order; all know their prediction or none does.
        picture: The finished picture.
        title: The prompt.
        facts: A line of settings below it.
        bands: What coarse, middle and fine mean, in a few words each.
    """
    return _Strip(columns, picture, bands).draw(title, facts)


class _Strip:
    """Where everything lies, and the pens."""

    def __init__(self, columns: Sequence[Column], picture: Pixels, bands: Sequence[str]) -> None:
        self._columns, self._picture, self._bands = columns, picture, bands
        self._foreseen = all(column.predicted is not None for column in columns)
        height, width = picture.shape[:2]
        self._cell: tuple[int, int] = (
            max(1, round(CELL_PX * min(1.0, width / height))),
            max(1, round(CELL_PX * min(1.0, height / width))),
        )
        rows = 2 if self._foreseen else 1
        self._pitch = max(self._cell[0], 84) + GAP_PX
        self._top = MARGIN_PX + TITLE_PX + NAMES_PX
        self._second = self._top + self._cell[1] + BAR_PX
        self._foot = self._top + rows * self._cell[1] + BAR_PX
        self._left = MARGIN_PX + SIDE_PX
        self._right = self._left + len(columns) * self._pitch + GAP_PX
        large = self._second + self._cell[1] - self._top if self._foreseen else 2 * self._cell[1]
        scale = large / self._cell[1]
        self._large = (round(self._cell[0] * scale), large)
        self._size = (
            self._right + self._large[0] + MARGIN_PX,
            max(self._foot + self._foreseen * (CHART_PX + 30), self._top + large) + MARGIN_PX,
        )
        self._sheet = Image.new("RGB", self._size, PAPER)
        self._pen = ImageDraw.Draw(self._sheet)

    def draw(self, title: str, facts: str) -> Image.Image:
        """The whole sheet."""
        room = self._size[0] - 2 * MARGIN_PX
        self._text((MARGIN_PX, MARGIN_PX - 8), _fitting(printable(title), 24, room), 24)
        self._text((MARGIN_PX, MARGIN_PX + 28), _fitting(printable(facts), 14, room), 14, PALE)
        self._side(self._top, "what the model sees", "latents before the call,", "decoded")
        if self._foreseen:
            self._side(
                self._second,
                "what it has in mind",
                "the finished picture,",
                "as this call foresees it",
            )
            self._chart(self._foot + 30)
        else:
            self._text((self._left, self._foot - BAR_PX + 14), UNKNOWN, 12, PALE)
        for index, column in enumerate(self._columns):
            self._draw_column(self._left + index * self._pitch, column)
        self._place(self._picture, (self._right, self._top), self._large)
        self._text((self._right, self._top - NAMES_PX + 2), "the finished picture", 16)
        self._text((self._right, self._top - NAMES_PX + 22), "as a run gives it", 12, PALE)
        return self._sheet

    def _draw_column(self, left: int, column: Column) -> None:
        self._text((left, self._top - NAMES_PX + 2), column.name, 16)
        self._text((left, self._top - NAMES_PX + 22), column.note, 12, PALE)
        self._place(column.seen, (left, self._top), self._cell)
        if column.noise is not None:
            top = self._top + self._cell[1] + 6
            width = self._pitch - GAP_PX
            self._pen.rectangle((left, top, left + width - 1, top + 3), fill=FRAME)
            filled = round(width * column.noise)
            if filled:
                self._pen.rectangle((left, top, left + filled - 1, top + 3), fill=NOISE)
            self._text((left, top + 7), f"{_percent(column.noise)} noise", 12, PALE)
        if self._foreseen and column.predicted is not None:
            self._place(column.predicted, (left, self._second), self._cell)

    def _side(self, top: int, name: str, *notes: str) -> None:
        """A row's name, in the margin at the left."""
        top += self._cell[1] // 2 - 10 - 8 * len(notes)
        self._text((MARGIN_PX, top), name, 16)
        for index, note in enumerate(notes):
            self._text((MARGIN_PX, top + 24 + 17 * index), note, 12, PALE)

    def _chart(self, top: int) -> None:
        """How much is decided, a line per band; the finished picture is all of it."""
        self._text((MARGIN_PX, top), "already decided", 16)
        for index, ((name, colour), meaning) in enumerate(zip(BANDS, self._bands, strict=True)):
            middle = top + 38 + 24 * index
            self._pen.line((MARGIN_PX, middle, MARGIN_PX + 18, middle), fill=colour, width=3)
            self._text((MARGIN_PX + 26, middle - 9), name, 14)
            self._text((MARGIN_PX + 80, middle - 7), meaning, 12, PALE)
        left, right = self._left, self._right
        size = (right - left + 8, CHART_PX + 16)
        canvas = Image.new("RGB", (size[0] * SMOOTH, size[1] * SMOOTH), PAPER)
        pen = ImageDraw.Draw(canvas)
        for share in (0.0, 0.5, 1.0):
            level = (8 + (1 - share) * CHART_PX) * SMOOTH
            pen.line((0, level, (right - left) * SMOOTH, level), fill=FRAME, width=SMOOTH)
        for band, (_, colour) in reversed(list(enumerate(BANDS))):
            points = [
                (self._middle(index) - left, column.decided[band])
                for index, column in enumerate(self._columns)
            ]
            points.append((right - left, 1.0))
            _draw_line(pen, points, colour)
        self._sheet.paste(canvas.resize(size, Image.Resampling.LANCZOS), (left, top - 8))
        for share in (0.0, 0.5, 1.0):
            level = round(top + (1 - share) * CHART_PX)
            self._text((right + 12, level - 8), f"{100 * share:.0f} %", 12, PALE)

    def _middle(self, index: int) -> int:
        return self._left + index * self._pitch + self._cell[0] // 2

    def _place(self, pixels: Pixels, at: tuple[int, int], size: tuple[int, int]) -> None:
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        self._pen.rectangle((at[0] - 1, at[1] - 1, at[0] + size[0], at[1] + size[1]), outline=FRAME)
        self._sheet.paste(picture, at)

    def _text(
        self, at: tuple[int, int], text: str, size: int, fill: tuple[int, int, int] = INK
    ) -> None:
        self._pen.text(at, text, fill=fill, font=ImageFont.load_default(size))


def _draw_line(
    pen: ImageDraw.ImageDraw, points: Sequence[tuple[int, float]], colour: tuple[int, int, int]
) -> None:
    places = [(x * SMOOTH, (8 + (1 - share) * CHART_PX) * SMOOTH) for x, share in points]
    pen.line(places, fill=colour, width=round(2.5 * SMOOTH), joint="curve")
    for x, y in places:
        dot = 4 * SMOOTH
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=colour)


def _percent(share: float) -> str:
    """A share as people read it: whole, but never 100 % of what is not all."""
    shown = f"{100 * share:.0f}"
    return f"{min(99.9, 100 * share):.1f} %" if shown == "100" and share < 1 else f"{shown} %"


def _fitting(text: str, size: int, width: int) -> str:
    """The text, cut where the sheet ends."""
    font = ImageFont.load_default(size)
    text = text[:400]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip(' ,.;')}…"

"""Two pictures that should be one: how far apart they are, and where.

Numbers for machines, three panels for eyes: what is stored, what was drawn now, and their
difference, enlarged until it can be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sdbatch.dataset.figures import FRAME, INK, PAPER

PEAK = 255
PANEL_PX = 320
_GAP_PX, _MARGIN_PX, _FONT_PX, _LABEL_PX = 20, 28, 15, 30


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two pictures of one size are apart.

    Attributes:
        psnr_db: Peak signal to noise ratio; infinite for equal pictures.
        largest: Largest difference of one value, of 255.
        share: Share of values (pixels times three colours) that differ.
    """

    psnr_db: float
    largest: int
    share: float


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Difference | None:
    """Compare two pictures, uint8 `[H, W, 3]`; None when their sizes differ."""
    if first.shape != second.shape:
        return None
    apart = _apart(first, second)
    error = float(np.mean(apart.astype(np.float64) ** 2))
    psnr = 10 * math.log10(PEAK**2 / error) if error else math.inf
    return Difference(psnr, int(apart.max()), float(np.mean(apart != 0)))


def comparison(stored: NDArray[np.uint8], now: NDArray[np.uint8]) -> Image.Image:
    """Three labelled panels: stored, drawn now, and the difference as far as it shows.

    Small pictures are enlarged by a whole factor, so that every pixel stays a square.
    """
    panels = [(stored, "stored"), (now, "drawn now")]
    if stored.shape == now.shape:
        apart = _apart(stored, now)
        gain = max(1, PEAK // max(1, int(apart.max())))
        label = f"difference, {gain} times as strong" if apart.any() else "no difference"
        panels.append(((apart * gain).astype(np.uint8), label))
    pictures = [(_enlarged(pixels), label) for pixels, label in panels]
    font = ImageFont.load_default(_FONT_PX)
    width = max(max(picture.width, int(font.getlength(label))) for picture, label in pictures)
    height = max(picture.height for picture, _ in pictures)
    size = (
        2 * _MARGIN_PX + len(pictures) * width + (len(pictures) - 1) * _GAP_PX,
        2 * _MARGIN_PX + height + _LABEL_PX,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, (picture, label) in enumerate(pictures):
        left = _MARGIN_PX + index * (width + _GAP_PX)
        right, bottom = left + picture.width, _MARGIN_PX + picture.height
        draw.rectangle((left - 1, _MARGIN_PX - 1, right, bottom), outline=FRAME)
        sheet.paste(picture, (left, _MARGIN_PX))
        draw.text((left, _MARGIN_PX + height + 10), label, fill=INK, font=font)
    return sheet


def _apart(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.int16]:
    return np.abs(first.astype(np.int16) - second.astype(np.int16))


def _enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    factor = max(1, PANEL_PX // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST)

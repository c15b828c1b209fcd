"""What a picture's pixels say of its quality: columns for people and filters, never deletions.

All of it is computed in whole numbers, or in sums that are exact in float64, from the pixels
that are handed to the encoder: the same pixels give the same columns on every machine, and a
retry gives them again. Sources are named at each function.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UNIFORM_LEVELS = 8
"""Levels, of 256, within which nearly all values of a near-uniform picture lie."""
UNIFORM_SHARE = 0.99
"""Share of a channel's values that must lie there."""
_HASH_SIZE = (9, 8)
_ROWS = 128
_RIM = [0, 1, -2, -1]


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of one picture; the names are those of its columns.

    Attributes:
        is_blank: Every pixel has the same colour.
        is_uniform: In each channel 99 % of the values lie within 8 levels of each other.
        mean_luma: Mean brightness, 0 black to 255 white (ITU-R BT.601 luma).
        sharpness: Variance of the Laplacian of luma; low means blurred or flat.
        dhash: Difference hash, 16 hexadecimal digits; near pictures differ in few bits.
    """

    is_blank: bool
    is_uniform: bool
    mean_luma: float
    sharpness: float
    dhash: str

    def columns(self) -> dict[str, Any]:
        """Column to value."""
        return asdict(self)


def quality_of(image: Image.Image) -> Quality:
    """Measure an RGB picture."""
    luma = image.convert("L")  # Pillow's ITU-R 601-2 transform, in whole numbers
    levels = np.asarray(luma.histogram(), dtype=np.int64)
    uniform = _is_uniform(image, levels)
    return Quality(
        is_blank=uniform and _is_blank(image),
        is_uniform=uniform,
        mean_luma=float(np.float32(levels @ np.arange(256) / levels.sum())),
        sharpness=sharpness(np.asarray(luma)),
        dhash=dhash(luma),
    )


def sharpness(luma: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian, `[H, W]`; 0 where there is no inner pixel.

    Kernel 0 1 0, 1 -4 1, 0 1 0 over inner pixels. Source: Pech-Pacheco et al., Diatom
    autofocusing in brightfield microscopy, ICPR 2000; for blur of photographs, Pertuz et al.,
    Analysis of focus measure operators for shape-from-focus, Pattern Recognition 46, 2013.
    """
    if min(luma.shape) < 3:
        return 0.0
    square = 0
    for top in range(0, luma.shape[0] - 2, _ROWS):  # bands that stay in a core's cache
        wide = luma[top : top + _ROWS + 2].astype(np.int16)
        edges = wide[:-2, 1:-1] + wide[2:, 1:-1]
        edges += wide[1:-1, :-2]
        edges += wide[1:-1, 2:]
        edges -= wide[1:-1, 1:-1] << 2
        # Squares are below 2**20: float64 holds their sum exactly.
        exact = edges.astype(np.float64).ravel()
        square += int(exact @ exact)
    total = _sum_of_edges(luma)
    count = (luma.shape[0] - 2) * (luma.shape[1] - 2)
    return float(np.float32((square - total * total / count) / count))


def _sum_of_edges(luma: NDArray[np.uint8]) -> int:
    """Sum of the Laplacian: differences of differences cancel out but for those at the rim."""
    rows = luma[_RIM, 1:-1].sum(1, dtype=np.int64)
    columns = luma[1:-1, _RIM].sum(0, dtype=np.int64)
    outer, _, _, last = both = rows + columns
    return int(2 * (outer + last) - both.sum())


def dhash(luma: Image.Image) -> str:
    """Difference hash of a grey picture: is each of 8x8 cells darker than the one to its right?

    Source: Krawetz, Kind of Like That, hackerfactor.com, 2013; digits as the library
    `imagehash` writes them (Lanczos to 9x8, rows from the top, first bit highest). Averaging
    before Lanczos saves most of the time and turns a bit where two cells are almost equal.
    """
    cells = np.asarray(luma.resize(_HASH_SIZE, Image.Resampling.LANCZOS, reducing_gap=3.0))
    return np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes().hex()


def _is_uniform(image: Image.Image, luma_levels: NDArray[np.int64]) -> bool:
    # Three channels near-uniform make luma near-uniform in all but three times the rest, so
    # that most pictures are decided by luma alone.
    if _most_within(luma_levels) < 1 - 3 * (1 - UNIFORM_SHARE):
        return False
    channels = np.asarray(image.histogram(), dtype=np.int64).reshape(3, 256)
    return all(_most_within(channel) >= UNIFORM_SHARE for channel in channels)


def _most_within(levels: NDArray[np.int64]) -> float:
    """Largest share of values that lie within `UNIFORM_LEVELS` neighbouring levels."""
    sums = np.concatenate(([0], np.cumsum(levels)))
    windows = sums[UNIFORM_LEVELS:] - sums[:-UNIFORM_LEVELS]
    return float(windows.max() / sums[-1])


def _is_blank(image: Image.Image) -> bool:
    return all(low == high for low, high in (band.getextrema() for band in image.split()))

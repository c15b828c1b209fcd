"""Pictures that are none: the two ends of a drawing that fail their row.

NaN and infinity are no numbers, so there is nothing to store. A picture whose every value
is 0 is the same fault behind a clamp: a sound decoder does not end below its range in
every pixel, not even for "a black square on black". Every other dull picture (one colour,
too dark, twice the same) is a picture: it is kept, and only the run's canary counts it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdbatch.errors import BlackImageError, NonFiniteError
from sdbatch.records import RenderRow
from sdbatch.results import RowFailure


def flawed(row: RenderRow, pixels: NDArray[np.uint8] | None) -> RowFailure:
    """The failure of a row whose pixels are none.

    Args:
        row: What was asked for.
        pixels: All black; None where numbers were not finite.
    """
    if pixels is None:
        reason = "latents or pixels hold NaN or infinity"
        return RowFailure(row, NonFiniteError.__name__, reason)
    reason = "every pixel is black: the decoder ended below its range everywhere"
    return RowFailure(row, BlackImageError.__name__, reason)

"""Columns that ask for what this version cannot draw: known, and refused where they say something.

A row that leaves such a column empty, or holds the value that changes nothing, is drawn; any
other value is a fault of that row, for drawing it without would look as if it had been obeyed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_NEUTRAL: Mapping[str, tuple[float, ...]] = {
    "strength": (1.0,),
    "upscale_factor": (1.0,),
    "clip_skip": (0.0,),
    "eta": (0.0,),
    "guidance_rescale": (0.0,),
    **dict.fromkeys(
        (
            *("image", "mask_image", "control_image", "ip_adapter_image", "loras"),
            *("prompt_2", "prompt_3", "prompt_4", "negative_prompt_2", "negative_prompt_3"),
            *("negative_prompt_4", "sigmas", "timesteps"),
        ),
        (),
    ),
}
LATER = frozenset(_NEUTRAL)
"""Names of these columns."""

_EMPTY_TEXTS = ("", "[]", "{}", "null", "none")


def asks(name: str, value: Any) -> bool:
    """Whether a value of such a column asks for anything."""
    if value is None or (isinstance(value, list | tuple | dict) and not value):
        return False
    if isinstance(value, str):
        text = value.strip().lower()
        return text not in _EMPTY_TEXTS and not _is_neutral(name, text)
    if isinstance(value, int | float):
        return float(value) not in _NEUTRAL[name] or isinstance(value, bool)
    return True


def _is_neutral(name: str, text: str) -> bool:
    """Whether a text is one of the numbers that change nothing."""
    try:
        return float(text) in _NEUTRAL[name]
    except ValueError:
        return False


def asking(name: str, column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Mask of values that ask for anything."""
    if column.null_count == len(column):
        return np.zeros(len(column), np.bool_)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = column.cast(pa.float64(), safe=False)
        harmless = pc.is_in(values, value_set=pa.array(_NEUTRAL[name], pa.float64()))
        mask = pc.and_(pc.is_valid(values), pc.invert(harmless))
        return np.asarray(pc.fill_null(mask, False))
    return np.array([asks(name, value) for value in column.to_pylist()], np.bool_)


def later_reason(name: str) -> str:
    """Words for a row that asks for it."""
    neutral = _NEUTRAL[name]
    rest = f" or write {neutral[0]:g}" if neutral else ""
    hint = "; A1111 counts from 1, its 1 is 0 here" if name == "clip_skip" else ""
    return f"this version does not draw from this column, leave it empty{rest}{hint}"


def later_rows(table: pa.Table) -> Iterator[tuple[int, str, str]]:
    """(place, column, value) of every value in a batch of rows that asks for anything."""
    for name in table.column_names:
        if name in LATER:
            column = table.column(name)
            for place in np.flatnonzero(asking(name, column)).tolist():
                yield place, name, str(column[place].as_py())

"""What SDXL is told of a picture's sizes, as a row or a job says it.

A JSON object with the names of diffusers' parameters, each a pair, vertical before horizontal:
`{"original_size": [512, 512], "crops_coords_top_left": [0, 0], "target_size": [1024, 1024]}`.
What is left out is what its pipeline takes by itself: the picture's own size, and no crop.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

ORIGINAL, CORNER, TARGET = "original_size", "crops_coords_top_left", "target_size"
PAIRS = (ORIGINAL, CORNER, TARGET)
LARGEST = 16384
NOT_TOLD = "this model is not told of sizes, leave it empty"
_RIGHT = 'must be a JSON object such as {"original_size": [512, 512]}'


def micro_fault(text: str) -> str:
    """Why a text is no micro-conditioning; empty when it is one."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return _RIGHT
    if not isinstance(said, dict):
        return _RIGHT
    for name, pair in said.items():
        if name not in PAIRS:
            near = difflib.get_close_matches(name, PAIRS, n=1, cutoff=0.5)
            return f"takes no '{name}', " + (f"did you mean '{near[0]}'?" if near else _RIGHT)
        least = 0 if name == CORNER else 1
        if not (isinstance(pair, list) and len(pair) == 2 and all(_whole(n, least) for n in pair)):
            return f"{name} must be two whole numbers from {least} to {LARGEST}, height first"
    return ""


def one_spelling(said: str | Mapping[str, Any]) -> str:
    """The one text for what is said; empty for nothing, a faulty text as it stands."""
    if isinstance(said, str):
        if not said or micro_fault(said):
            return said
        said = json.loads(said)
    return json.dumps(said, sort_keys=True, separators=(",", ":")) if said else ""


def micro_numbers(text: str, height_px: int, width_px: int) -> tuple[float, ...]:
    """Original size, corner and target size of a picture: six numbers, as SDXL is told them.

    Args:
        text: Of `one_spelling`.
    """
    own = {ORIGINAL: (height_px, width_px), CORNER: (0, 0), TARGET: (height_px, width_px)}
    said = own | (json.loads(text) if text else {})
    return tuple(float(number) for name in PAIRS for number in said[name])


def _whole(number: Any, least: int) -> bool:
    return type(number) is int and least <= number <= LARGEST

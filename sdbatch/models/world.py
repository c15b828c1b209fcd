"""The picture world: what a scene may hold, as tables of class numbers.

One or two plain objects on a plain background: few enough attributes for a model of ten
megabytes to learn, enough to see at a glance whether a picture follows its prompt. A table of
scenes is an integer array `[N, 11]` with the columns of `COLUMNS`; in a scene of one object the
second one's columns are drawn and ignored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPES = (
    "circle", "square", "triangle", "star", "heart",
    "ring", "cross", "diamond", "crescent", "hexagon",
)  # fmt: skip
COLOURS = {
    "red": (220, 30, 35),
    "orange": (250, 135, 20),
    "yellow": (250, 220, 40),
    "green": (35, 155, 60),
    "cyan": (60, 210, 220),
    "blue": (35, 70, 215),
    "purple": (125, 45, 160),
    "pink": (250, 150, 190),
    "white": (248, 248, 248),
    "black": (18, 18, 20),
    "gray": (130, 130, 132),
}
COLOUR_NAMES = tuple(COLOURS)
PATTERNS = ("plain", "striped", "dotted", "outlined")
SIZES = ("small", "medium", "large")
PLACES = (
    "center", "top left", "top", "top right", "left",
    "right", "bottom left", "bottom", "bottom right",
)  # fmt: skip
LAYOUTS = ("single", "horizontal", "vertical")

CLASSES = {
    "layout": len(LAYOUTS),
    "background": len(COLOURS),
    "shape_1": len(SHAPES),
    "colour_1": len(COLOURS),
    "pattern_1": len(PATTERNS),
    "size_1": len(SIZES),
    "place": len(PLACES),
    "shape_2": len(SHAPES),
    "colour_2": len(COLOURS),
    "pattern_2": len(PATTERNS),
    "size_2": len(SIZES),
}
"""Each column's number of classes, in the order of the columns."""

COLUMNS = tuple(CLASSES)
AT = {name: number for number, name in enumerate(COLUMNS)}
CORE = ("layout", "background", "shape_1", "colour_1", "shape_2", "colour_2")
"""The attributes that must all be right for a picture to count as right."""

Scenes = NDArray[np.int64]

LIGHT = 0.55
"""Luma above which an object's second colour is black, else white."""

TWO_OBJECTS_SHARE = 0.35
_PATTERN_SHARES = (0.49, 0.17, 0.17, 0.17)
_SIZE_SHARES = (0.3, 0.4, 0.3)
_SIZE_SHARES_OF_TWO = (0.4, 0.6)
_PLACE_SHARES = (0.28, *[0.09] * 8)
_COMMON_BACKGROUNDS = {"white": 2.5, "black": 1.8}


def random_scenes(count: int, rng: np.random.Generator) -> Scenes:
    """Scenes `[count, 11]`; no object has the colour of its background."""
    scenes = np.zeros((count, len(COLUMNS)), np.int64)
    two = TWO_OBJECTS_SHARE / 2
    scenes[:, AT["layout"]] = rng.choice(3, count, p=[1 - 2 * two, two, two])
    weights = np.array([_COMMON_BACKGROUNDS.get(name, 1.0) for name in COLOUR_NAMES])
    scenes[:, AT["background"]] = rng.choice(len(weights), count, p=weights / weights.sum())
    for number in (1, 2):
        _random_objects(scenes, number, rng)
    scenes[:, AT["place"]] = rng.choice(len(PLACES), count, p=_PLACE_SHARES)
    scenes[has_two(scenes), AT["place"]] = 0
    return scenes


def _random_objects(scenes: Scenes, number: int, rng: np.random.Generator) -> None:
    count, colours = len(scenes), len(COLOURS)
    scenes[:, AT[f"shape_{number}"]] = rng.integers(0, len(SHAPES), count)
    step = rng.integers(1, colours, count)
    scenes[:, AT[f"colour_{number}"]] = (scenes[:, AT["background"]] + step) % colours
    scenes[:, AT[f"pattern_{number}"]] = rng.choice(len(PATTERNS), count, p=_PATTERN_SHARES)
    sizes = rng.choice(3, count, p=_SIZE_SHARES)
    pair = rng.choice(2, count, p=_SIZE_SHARES_OF_TWO)
    scenes[:, AT[f"size_{number}"]] = np.where(has_two(scenes), pair, sizes)


def has_two(scenes: Scenes) -> NDArray[np.bool_]:
    """Which scenes hold two objects, `[N]`."""
    return np.asarray(scenes[:, AT["layout"]] > 0)


def meant(scenes: Scenes) -> dict[str, NDArray[np.bool_]]:
    """For each column, the scenes in which it can be seen, `[N]`.

    Places are of single objects, second objects of pairs, and an outline in the colour of the
    background is none: such an object looks plain.
    """
    two = has_two(scenes)
    every = np.ones(len(scenes), bool)
    masks = {
        name: two if name.endswith("_2") else ~two if name == "place" else every for name in COLUMNS
    }
    for number in (1, 2):
        pattern = f"pattern_{number}"
        masks[pattern] = masks[pattern] & ~_outline_is_hidden(scenes, number)
    return masks


def second_colour(colour: int) -> str:
    """The colour of stripes, dots and outlines on an object of this colour."""
    red, green, blue = COLOURS[COLOUR_NAMES[colour]]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > LIGHT * 255 else "white"


def _outline_is_hidden(scenes: Scenes, number: int) -> NDArray[np.bool_]:
    second = [COLOUR_NAMES.index(second_colour(colour)) for colour in range(len(COLOURS))]
    outlined = scenes[:, AT[f"pattern_{number}"]] == PATTERNS.index("outlined")
    on_object = np.array(second)[scenes[:, AT[f"colour_{number}"]]]
    return np.asarray(outlined & (on_object == scenes[:, AT["background"]]))

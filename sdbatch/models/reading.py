"""Captions become scenes again: what a full caption says, as class numbers.

The inverse of `captions.full_caption`, so that any dataset whose prompts are of this world can be
judged by its prompts alone. What full captions leave unsaid is plain, medium and in the middle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sdbatch.models.captions import SYNONYMS
from sdbatch.models.world import (
    AT,
    COLOUR_NAMES,
    COLUMNS,
    LAYOUTS,
    PATTERNS,
    PLACES,
    SHAPES,
    SIZES,
)

_MEANING = {synonym: word for word, synonyms in SYNONYMS.items() for synonym in synonyms}
_MEANING |= {"upper": "top", "lower": "bottom"}
_BACKGROUND_WORDS = ("background", "backdrop")
_RELATIONS = {
    r"\b(right of)\b": ("horizontal", True),
    r"\b(and|next to|left of|beside)\b": ("horizontal", False),
    r"\b(below|under)\b": ("vertical", True),
    r"\b(above|over|on top of)\b": ("vertical", False),
}
"""What stands between two objects: their layout, and whether the second is named first."""


@dataclass(frozen=True, slots=True)
class _Object:
    shape: int
    colour: int
    pattern: int
    size: int


def read_caption(text: str) -> list[int] | None:
    """The scene a full caption means, in the order of `COLUMNS`.

    Returns:
        None when it does not say background, shape and colour of one or two objects.
    """
    words = [_MEANING.get(word, word) for word in re.findall(r"[a-z]+", text.lower())]
    background = _take_background(words)
    at = [number for number, word in enumerate(words) if word in SHAPES]
    if background is None or not 1 <= len(at) <= 2:
        return None
    first = _object(words[: at[0] + 1])
    second = _object(words[at[0] + 1 : at[1] + 1]) if len(at) == 2 else first
    relation = _relation(" ".join(words[at[0] + 1 : at[1]])) if len(at) == 2 else ("single", False)
    if first is None or second is None or relation is None:
        return None
    layout, reverse = relation
    if reverse:
        first, second = second, first
    place = _place(words[at[-1] + 1 :]) if layout == "single" else 0
    return _scene(LAYOUTS.index(layout), background, place, (first, second))


def _scene(layout: int, background: int, place: int, objects: Sequence[_Object]) -> list[int]:
    scene = [0] * len(COLUMNS)
    scene[AT["layout"]], scene[AT["background"]], scene[AT["place"]] = layout, background, place
    for number, described in enumerate(objects, 1):
        for attribute in ("shape", "colour", "pattern", "size"):
            scene[AT[f"{attribute}_{number}"]] = getattr(described, attribute)
    return scene


def _take_background(words: list[str]) -> int | None:
    """The background's colour; its words leave the list."""
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if word in _BACKGROUND_WORDS and before in COLOUR_NAMES:
            del words[number - 1 : number + 1]
            return COLOUR_NAMES.index(before)
        if word in COLOUR_NAMES and before == "on":
            del words[number - 1 : number + 1]
            return COLOUR_NAMES.index(word)
    return None


def _object(words: Sequence[str]) -> _Object | None:
    """What the words up to and with a shape say of it."""
    colours = _named(words, COLOUR_NAMES)
    if len(colours) != 1:
        return None
    pattern, size = _named(words, PATTERNS), _named(words, SIZES)
    return _Object(
        shape=SHAPES.index(words[-1]),
        colour=colours[0],
        pattern=pattern[0] if pattern else PATTERNS.index("plain"),
        size=size[0] if size else SIZES.index("medium"),
    )


def _named(words: Sequence[str], classes: Sequence[str]) -> list[int]:
    return [classes.index(word) for word in words if word in classes]


def _relation(between: str) -> tuple[str, bool] | None:
    for pattern, relation in _RELATIONS.items():
        if re.search(pattern, between):
            return relation
    return None


def _place(words: Sequence[str]) -> int:
    said = [word for side in (("top", "bottom"), ("left", "right")) for word in words
            if word in side]  # fmt: skip
    return PLACES.index(" ".join(said)) if " ".join(said) in PLACES else 0

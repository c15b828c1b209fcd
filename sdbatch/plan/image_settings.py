"""Which settings an image format has: defaults are filled in, and misfits refused.

Pure: whether an encoder is installed is for others to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdbatch.errors import JobError
from sdbatch.output_specs import FAST, ImageSpec
from sdbatch.plan.settings import Resolved

FORMAT, QUALITY, LOSSLESS = "image.format", "image.quality", "image.lossless"
CHROMA, SAVE_SIZE, METADATA = "image.chroma", "image.save_size", "image.metadata"
PNG_LEVEL, PNG_STRATEGY = "image.png_level", "image.png_strategy"
_DERIVED = (QUALITY, CHROMA, PNG_LEVEL, PNG_STRATEGY)
"""Settings whose default follows from others: a plan that stands has them settled."""
RUN_LENGTHS = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """What a format can do.

    Attributes:
        quality: Where nobody says; None when it keeps every pixel and has no quality.
        best: Highest quality.
        lossless: Whether it can keep every pixel.
        chroma: Chroma subsamplings to choose from, the default first; empty when it has none.
        told: What to ask for instead of a chroma that it has not.
    """

    quality: int | None
    best: int = 100
    lossless: bool = False
    chroma: tuple[str, ...] = ()
    told: str = ""


RULES: Mapping[str, Rule] = {
    "png": Rule(None, lossless=True, told="keeps every pixel and thins no colour out"),
    "jpeg": Rule(90, chroma=("420", "422", "444")),
    "webp": Rule(90, lossless=True, chroma=("420",), told="has 420 alone"),
    "avif": Rule(75, chroma=("420", "422", "444")),
    "jxl": Rule(90, best=99, lossless=True, told="thins no colour out"),
}
"""Format to what it can do."""


def with_images(resolved: Resolved, standing: Mapping[str, Any], fast_png: bool) -> Resolved:
    """The settings with everything said of image files.

    Args:
        resolved: What was asked.
        standing: Settings of the plan that stands; empty for a new one.
        fast_png: Whether the fast PNG writer is installed.

    Raises:
        JobError: A format does not have such a setting.
    """
    for key in _DERIVED:
        if key in standing and key not in resolved.explicit:
            resolved = resolved.with_value(key, standing[key], "as planned")
    name, lossless = (_chosen(key, resolved, standing) for key in (FORMAT, LOSSLESS))
    rule = RULES[name]
    _demand(resolved, name, rule, lossless)
    if standing:
        return resolved
    return _filled(resolved, rule, fast_png)


def _chosen(key: str, resolved: Resolved, standing: Mapping[str, Any]) -> Any:
    """What will hold: what a person says, else what stands."""
    own = resolved.value(key)
    return own if key in resolved.explicit else standing.get(key, own)


def _filled(resolved: Resolved, rule: Rule, fast_png: bool) -> Resolved:
    """Defaults that follow from the format."""
    lossy = not resolved.value(LOSSLESS)
    defaults: dict[str, Any] = {}
    if resolved.value(QUALITY) is None and lossy and rule.quality is not None:
        defaults[QUALITY] = rule.quality
    if resolved.value(CHROMA) is None and lossy and rule.chroma:
        defaults[CHROMA] = rule.chroma[0]
    level = resolved.value(PNG_LEVEL)
    if level == "auto":
        level = defaults[PNG_LEVEL] = FAST if fast_png else 1
    if resolved.value(PNG_STRATEGY) == "auto":
        # Pillow's level 1 is quickest, and no larger on photographs, with runs alone.
        defaults[PNG_STRATEGY] = RUN_LENGTHS if level in (1, FAST) else 0
    for key, value in defaults.items():
        resolved = resolved.with_value(key, value, "default")
    return resolved


def _demand(resolved: Resolved, name: str, rule: Rule, lossless: bool) -> None:
    """Refuse what a person asked for and the format has not."""
    quality, chroma = resolved.value(QUALITY), resolved.value(CHROMA)
    if lossless and not rule.lossless:
        _refuse(resolved, LOSSLESS, f"{name} cannot keep every pixel, choose webp, jxl or png")
    if QUALITY in resolved.explicit and quality is not None:
        if rule.quality is None:
            _refuse(resolved, QUALITY, f"{name} keeps every pixel, choose jpeg, webp, avif or jxl")
        if lossless:
            _refuse(resolved, QUALITY, "a lossless file has no quality, leave one of them out")
        if quality > rule.best:
            top = f"{name} goes from 1 to {rule.best}"
            _refuse(resolved, QUALITY, f"{top}, or choose --lossless" if rule.lossless else top)
    if CHROMA in resolved.explicit and chroma is not None:
        if lossless:
            _refuse(resolved, CHROMA, "a lossless file keeps all colour, leave one of them out")
        if chroma not in rule.chroma:
            _refuse(resolved, CHROMA, f"{name} {rule.told}, choose jpeg or avif")
    for key in (PNG_LEVEL, PNG_STRATEGY):
        if key in resolved.explicit and name != "png":
            _refuse(resolved, key, f"is for png alone, {name} has no such setting")


def _refuse(resolved: Resolved, key: str, why: str) -> None:
    setting = resolved.settings[key]
    raise JobError(f"{setting.source}: {key}: {setting.value}: {why}")


def image_spec(values: Mapping[str, Any]) -> ImageSpec:
    """How pictures are encoded, from the settings of a plan, of earlier versions too."""
    return ImageSpec(
        format=values[FORMAT],
        png_level=values[PNG_LEVEL],
        png_strategy=values[PNG_STRATEGY],
        metadata=values.get(METADATA, "none"),
        quality=values.get(QUALITY) or 0,
        lossless=values.get(LOSSLESS, False),
        chroma=values.get(CHROMA) or "",
        save_size=values.get(SAVE_SIZE) or "",
    )

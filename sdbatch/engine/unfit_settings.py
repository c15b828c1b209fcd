"""A word in time about steps and guidance that a known model was not made for.

A distilled model with fifty steps gives burnt pictures, a model of many steps gives a sketch
with two, and neither says so. Defaults are judged, and the rows that state their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sdbatch.manifest.checks import CheckReport
from sdbatch.plan.settings import Resolved
from sdbatch.records import ModelFacts
from sdbatch.render.families.known_models import MANY, PublishedModel, find_known


def unfit_settings(model: ModelFacts, resolved: Resolved, checked: CheckReport | None) -> list[str]:
    """A line for each of steps and guidance that does not suit the model; none for others.

    Args:
        checked: What rows state themselves; None where nobody looked.
    """
    known = find_known(model.name)
    if known is None:
        return []
    fewest, most = known.steps
    steps = _Judged("steps", _steps(known), lambda value: not fewest <= value <= most)
    guidance = _Judged("guidance", _guidance(known), lambda value: value > known.max_guidance)
    lines = []
    for judged, key in ((steps, "num_inference_steps"), (guidance, "guidance_scale")):
        stated: Mapping[float, int] = getattr(checked, judged.what) if checked else {}
        left_open = checked is None or sum(stated.values()) < checked.num_rows
        found = [*_default(judged, resolved, key if left_open else ""), *_rows(judged, stated)]
        if found:
            wants = f"warning: model {known.short} is made for {judged.wants}"
            lines.append(f"{wants}: here {', '.join(found)}")
    return lines


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a number is called, what the model wants of it, and whether one is unfit."""

    what: str
    wants: str
    unfit: Callable[[float], bool]


def _steps(known: PublishedModel) -> str:
    fewest, most = known.steps
    if most == MANY:
        return f"{fewest} steps or more, usually {known.settings.num_inference_steps}"
    return f"{fewest} steps" if fewest == most else f"{fewest} to {most} steps"


def _guidance(known: PublishedModel) -> str:
    return f"guidance {known.settings.guidance_scale:g}, at most {known.max_guidance:g}"


def _default(judged: _Judged, resolved: Resolved, key: str) -> Iterator[str]:
    """The default, where rows leave it open; `key` is empty where none does."""
    setting = resolved.settings[f"defaults.{key}"] if key else None
    if setting is not None and judged.unfit(setting.value):
        yield f"{judged.what} {setting.value:g} ({setting.source})"


def _rows(judged: _Judged, stated: Mapping[float, int]) -> Iterator[str]:
    """What rows state themselves, counted."""
    unfit = {value: rows for value, rows in stated.items() if judged.unfit(value)}
    if unfit:
        low, high, rows = min(unfit), max(unfit), sum(unfit.values())
        span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        yield f"{judged.what} {span} in {rows:,} {'row' if rows == 1 else 'rows'} of the manifest"

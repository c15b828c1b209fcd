"""Models whose best settings are known by name.

A model's files say which scheduler it wants and how large it draws, but not how many
steps or how much guidance suit it. This table does, for models where that is known;
others take what their family usually takes. Plain data: no torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownModel:
    """Settings that suit a model; None leaves a setting to its configuration."""

    num_inference_steps: int
    guidance_scale: float
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    scheduler_config: str = ""


KNOWN: Mapping[str, KnownModel] = {
    "shapes": KnownModel(12, 3.0, 64, 64, "DPMSolverMultistepScheduler"),
}
"""By the name a user gives; `shapes` comes with the package."""

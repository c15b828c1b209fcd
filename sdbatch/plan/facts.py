"""What planning knows of schedulers, generated from the real ones into `facts.json`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

FACTS: dict[str, dict[str, Any]] = json.loads(
    files("sdbatch.plan").joinpath("facts.json").read_text(encoding="utf-8")
)
"""Scheduler class name to `way` (`tabled` or `grouped`), `kind`, `history`, `reason`."""

TABLED = frozenset(
    name for name, fact in FACTS.items() if fact["way"] == "tabled" and fact["kind"] == "diffusion"
)
"""Schedulers that rows of a Stable Diffusion model can name."""

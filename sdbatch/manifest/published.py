"""The columns sdbatch reads, for people and programs that write manifests."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from sdbatch.manifest.aliases import ALIASES, SHORT, SIZES
from sdbatch.manifest.later import LATER
from sdbatch.manifest.schema import CANONICAL, MAX_IMAGES_PER_PROMPT, MAX_SEED, MAX_SIZE_PX

_RANGES: dict[str, dict[str, Any]] = {
    "seed": {"minimum": 0, "maximum": MAX_SEED},
    "width": {"minimum": 8, "maximum": MAX_SIZE_PX},
    "height": {"minimum": 8, "maximum": MAX_SIZE_PX},
    "num_inference_steps": {"minimum": 1},
    "guidance_scale": {"minimum": 0},
    "true_cfg_scale": {"minimum": 0},
    "num_images_per_prompt": {"minimum": 1, "maximum": MAX_IMAGES_PER_PROMPT},
}


def arrow_schema() -> pa.Schema:
    """Canonical columns in their Arrow types; only `prompt` must be there."""
    return pa.schema([pa.field(name, kind, name != "prompt") for name, kind in CANONICAL.items()])


def aliases_of(name: str) -> list[str]:
    """Other names of a column; case, blanks and hyphens do not count."""
    found = [other for other, meant in {**ALIASES, **SHORT}.items() if meant == name]
    return sorted([*found, *(SIZES if name in ("width", "height") else ())])


def json_schema() -> dict[str, Any]:
    """JSON Schema of one row, as `.jsonl` holds them, each column with its aliases."""
    columns = {name: _column(name, kind) for name, kind in CANONICAL.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "a row of a manifest of sdbatch",
        "type": "object",
        "properties": columns,
        "required": ["prompt"],
        "additionalProperties": True,
        "x-not-drawn-yet": sorted(LATER),
    }


def _column(name: str, kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_integer(kind):
        made: dict[str, Any] = {"type": ["integer", "null"]}
    elif pa.types.is_floating(kind):
        made = {"type": ["number", "null"]}
    elif name in ("id", "scheduler"):
        made = {"type": ["string", "integer", "null"]}
    elif name in ("scheduler_config", "micro_conditioning"):
        made = {"type": ["string", "object", "null"]}
    else:
        made = {"type": "string" if name == "prompt" else ["string", "null"]}
    others = aliases_of(name)
    return {**made, **_RANGES.get(name, {}), **({"x-aliases": others} if others else {})}

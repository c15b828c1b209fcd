"""The order in which a worker visits pictures: alike ones together, long ones first.

Pictures of one size share a pass, so sizes are visited one after the other. Within a size
the longest rows start first: short ones then fill the lanes that fall free at the end.
"""

from __future__ import annotations

from collections.abc import Iterable

from sdbatch.records import RenderRow


def model_calls(row: RenderRow) -> int:
    """Lane passes a picture takes: its steps, twice where guidance needs two lanes."""
    return row.num_inference_steps * (2 if row.guided else 1)


def visiting_order(rows: Iterable[RenderRow]) -> list[RenderRow]:
    """The same pictures: largest size first, then most model calls, then manifest order."""
    return sorted(
        rows,
        key=lambda row: (
            *(-row.width_px * row.height_px, row.width_px, -model_calls(row)),
            *row.image_id,
        ),
    )

"""Rows and small helpers that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from sdbatch.records import RenderRow
from sdbatch.render.renderer import LaneRenderer
from sdbatch.results import RenderedImage, RowFailure


def make_row(index: int = 0, **changes: object) -> RenderRow:
    """A quick row: 32 px, 3 steps, guided."""
    settings: dict[str, object] = {
        "row_index": index,
        "image_index": 0,
        "row_id": str(index),
        "prompt": f"a {('red', 'green', 'blue')[index % 3]} circle on white",
        "negative_prompt": "",
        "seed": index,
        "width_px": 32,
        "height_px": 32,
        "num_inference_steps": 3,
        "guidance_scale": 3.0,
        "scheduler": "DDIMScheduler",
    }
    return RenderRow(**(settings | changes))  # type: ignore[arg-type]


def pictures(results: Iterable[RenderedImage | RowFailure]) -> dict[int, np.ndarray]:
    """Row index to pixels; every row must have been drawn, once."""
    drawn: dict[int, np.ndarray] = {}
    for result in results:
        assert isinstance(result, RenderedImage), result
        assert result.row.row_index not in drawn
        drawn[result.row.row_index] = result.pixels
    return drawn


def latents_of(
    renderer: LaneRenderer, rows: list[RenderRow], lanes: int
) -> dict[int, torch.Tensor]:
    """Row index to final latents, all rows of one size through one set of lanes."""
    items = [renderer.prepare(row, []) for row in rows]
    failed = [item for item in items if isinstance(item, RowFailure)]
    assert not failed, failed
    room = renderer.make_lanes(items[0], lanes)
    waiting, done = list(items), {}
    while waiting or room.busy_lanes:
        while waiting and room.free:
            room.admit(waiting.pop(0))
        for each in room.run_pass():
            done[each.item.row.row_index] = each.latents
    return done


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())

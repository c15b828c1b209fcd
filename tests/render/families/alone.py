"""A model's own pipeline, called for one row at a time: what rows in lanes are compared with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdbatch.model_specs import RenderSpec, Speed
from sdbatch.records import RenderRow
from sdbatch.render.diffusers_folder import quiet
from sdbatch.render.loading import load_renderer
from sdbatch.render.renderer import LaneRenderer
from sdbatch.render.schedulers import flow_config, scheduler_setting
from sdbatch.render.weights.model_facts import find_model
from tests.render.drawing import latents_of, pictures, relative_error

LATENTS_WITHIN = 1e-4
LEVELS_APART, SHARE_WITHIN = 1, 0.999


class Alone:
    """The pipeline of a diffusers folder.

    Args:
        folder: The model's.
        call: What every call is told beside a row's settings.
    """

    def __init__(self, folder: Path, **call: Any) -> None:
        with quiet():
            self._pipe: Any = diffusers.DiffusionPipeline.from_pretrained(
                folder, dtype=torch.float32
            )
        self._pipe.set_progress_bar_config(disable=True)
        config = dict(self._pipe.scheduler.config)
        self._scheduler_config = flow_config(config) if find_model(str(folder)).flow else config
        self._call = call

    def latents(self, row: RenderRow) -> Tensor:
        """The row's last latents `[C, h, w]`."""
        found: Tensor = self._run(row, "latent")[0]
        return found

    def pixels(self, row: RenderRow) -> NDArray[np.uint8]:
        """The row's picture, `[H, W, 3]`."""
        found: Tensor = self._run(row, "pt")[0]
        return (found * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    def _run(self, row: RenderRow, output_type: str) -> Any:
        overrides = json.loads(row.scheduler_config or "{}")
        setting = scheduler_setting(row.scheduler, self._scheduler_config, overrides, 1)
        with quiet():
            self._pipe.scheduler = getattr(diffusers, row.scheduler).from_config(
                dict(setting.config)
            )
        return self._pipe(
            row.prompt,
            negative_prompt=row.negative_prompt,
            width=row.width_px,
            height=row.height_px,
            num_inference_steps=row.num_inference_steps,
            guidance_scale=row.guidance_scale,
            generator=torch.Generator().manual_seed(row.seed),
            output_type=output_type,
            **self._call,
        ).images


def load(folder: Path, speed: Speed = Speed(), **lanes: int) -> LaneRenderer:  # noqa: B008
    """A folder's renderer; `p32x32=4` settles the lanes of a size."""
    facts = find_model(os.fspath(folder))
    sizes = {name.lstrip("p"): count for name, count in lanes.items()}
    spec = RenderSpec(facts.name, facts.path, facts.revision, "auto", sizes, 1, speed)
    return load_renderer(spec, [])  # type: ignore[return-value]


def check_latents(renderer: LaneRenderer, alone: Alone, rows: list[RenderRow], lanes: int) -> None:
    """All rows, of one size, through one set of lanes: latents as of their own pipeline."""
    found = latents_of(renderer, rows, lanes)
    errors = {
        row.row_index: relative_error(found[row.row_index], alone.latents(row)) for row in rows
    }
    assert max(errors.values()) < LATENTS_WITHIN, errors


def check_pictures(renderer: LaneRenderer, alone: Alone, rows: Iterable[RenderRow]) -> None:
    """All rows, of any sizes, in one call: pictures as of their own pipeline."""
    wanted = {row.row_index: alone.pixels(row) for row in rows}
    drawn = pictures(renderer.render(rows))
    assert drawn.keys() == wanted.keys()
    for index, picture in drawn.items():
        apart = np.abs(picture.astype(int) - wanted[index].astype(int))
        assert (apart <= LEVELS_APART).mean() >= SHARE_WITHIN, index

"""diffusers' own pipeline around the same weights: what a renderer is compared with.

It is called as its documentation shows, one row at a time or several alike rows in one
call, with torch's own settings rather than the exact ones of a run, but with the layout
that the weights were loaded in. Rows that differ in scheduler, steps or guidance cannot
share a call there.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from sdbatch.records import RenderRow
from sdbatch.render.device import be_exact, use_threads
from sdbatch.render.diffusers_folder import quiet
from sdbatch.render.renderer import LaneRenderer
from sdbatch.render.schedulers import scheduler_setting

Setting = tuple[int, int, str, int, float]


class PlainPipeline:
    """The model's own pipeline, sharing a renderer's models.

    Args:
        renderer: Whose models.
        scheduler_config: The model's own.
        cpu_threads: Threads of torch on a CPU.
    """

    def __init__(
        self, renderer: LaneRenderer, scheduler_config: Mapping[str, Any], cpu_threads: int
    ) -> None:
        self._scheduler_config = dict(scheduler_config)
        self._cpu_threads = cpu_threads
        with quiet():
            scheduler = str(self._scheduler_config["_class_name"])
            made = getattr(diffusers, renderer.env.pipeline_class)
            parts = _of_one_type(renderer.components)
            self._pipe: Any = made(
                **parts,
                **_left_out(made, parts),
                scheduler=scheduler_setting(scheduler, self._scheduler_config, {}, 1).make(),
            )
        self._pipe.set_progress_bar_config(disable=True)

    def draw(self, rows: Sequence[RenderRow], at_once: int) -> list[NDArray[np.uint8]]:
        """Pictures of rows, at most `at_once` of equal settings in a call; alike rows together."""
        use_threads(self._cpu_threads)
        pictures: list[NDArray[np.uint8]] = []
        with _as_torch_ships():
            for setting, alike in groupby(sorted(rows, key=_setting), key=_setting):
                waiting = list(alike)
                for first in range(0, len(waiting), at_once):
                    pictures += self._call(setting, waiting[first : first + at_once])
        return pictures

    def _call(self, setting: Setting, rows: Sequence[RenderRow]) -> list[NDArray[np.uint8]]:
        width, height, scheduler, steps, guidance = setting
        how = scheduler_setting(scheduler, self._scheduler_config, {}, steps)
        self._pipe.scheduler = how.make()
        images = self._pipe(
            [row.prompt for row in rows],
            width=width,
            height=height,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(row.seed) for row in rows],
            output_type="pt",
        ).images
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return list(pixels)


def _of_one_type(components: Mapping[str, Any]) -> dict[str, Any]:
    """The parts as diffusers loads them: a decoder that a run widens is a narrow copy here."""
    vae, denoiser = components["vae"], components.get("transformer") or components["unet"]
    if vae.dtype == denoiser.dtype:
        return dict(components)
    return {**components, "vae": copy.deepcopy(vae).to(denoiser.dtype)}


def _left_out(pipeline: Any, components: Mapping[str, Any]) -> dict[str, None]:
    """Nothing, for the parts that no renderer has: safety checker, image encoders."""
    takes = inspect.signature(pipeline.__init__).parameters.values()
    names = (one.name for one in takes if one.default is inspect.Parameter.empty)
    return dict.fromkeys(set(names) - {"self", "scheduler", *components})


def _setting(row: RenderRow) -> Setting:
    return (
        row.width_px,
        row.height_px,
        row.scheduler,
        row.num_inference_steps,
        row.guidance_scale,
    )


@contextmanager
def _as_torch_ships() -> Iterator[None]:
    """Settings of torch as after its import: kernels that need not give the same bits twice."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        be_exact()

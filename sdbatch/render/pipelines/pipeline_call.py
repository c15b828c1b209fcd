"""One call of diffusers' own pipeline for several rows of equal settings.

The pipeline sees what its documentation shows: prompts, sizes, steps, and one CPU generator
for each row. Only where it would change the size that was asked for, it is told not to. A
scheduler is made anew for every call, so nothing is left of the one before.
"""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdbatch.errors import InputError
from sdbatch.records import RenderRow
from sdbatch.render.diffusers_folder import quiet
from sdbatch.render.schedulers import scheduler_class, scheduler_setting


@dataclass(frozen=True, slots=True)
class Alike:
    """What rows must share to be drawn by one call; `negative` is whether they have such text."""

    size: tuple[int, int]
    num_inference_steps: int
    guidance_scale: float
    true_cfg_scale: float | None
    scheduler: str
    scheduler_config: str
    negative: bool
    guided: bool


def alike_of(row: RenderRow) -> Alike:
    """What another row must have in common with this one."""
    return Alike(
        size=(row.width_px, row.height_px),
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        true_cfg_scale=row.true_cfg_scale,
        scheduler=row.scheduler,
        scheduler_config=row.scheduler_config,
        negative=bool(row.negative_prompt),
        guided=row.guided,
    )


class PipelineCall:
    """A loaded pipeline, called with rows.

    Args:
        pipe: The pipeline, on its device.
        fact: What `pipeline_facts.json` says of its class.
    """

    def __init__(self, pipe: Any, fact: Mapping[str, Any]) -> None:
        self._pipe, self._fact = pipe, fact
        self._takes = frozenset(fact["takes"])
        self._own = getattr(pipe, "scheduler", None)
        parts = [part for part in vars(pipe).values() if hasattr(part, "components")]
        self._steppers = [
            one for one in (pipe, *parts) if getattr(one, "scheduler", None) is self._own
        ]

    @property
    def scheduler(self) -> str:
        """Class of the scheduler it was loaded with; empty for none."""
        return type(self._own).__name__ if self._own is not None else ""

    @property
    def takes_negative(self) -> bool:
        """Whether rows may have a negative prompt."""
        return "negative_prompt" in self._takes

    def fault(self, row: RenderRow) -> str:
        """Why a row cannot be drawn, as far as its words go; empty where it can."""
        if self._fact["way"] != "class" or row.prompt in self._pipe.labels:
            return ""
        near = difflib.get_close_matches(row.prompt, self._pipe.labels, n=1, cutoff=0.4)
        hint = f"the nearest is '{near[0]}'" if near else "its classes stand in model_index.json"
        return f"prompt: the model has no class '{row.prompt}', {hint}"

    def draw(self, rows: Sequence[RenderRow]) -> Tensor:
        """Pictures `[n, 3, H, W]` in 0..1, float32 on a CPU, of rows that are alike.

        Raises:
            InputError: Their scheduler cannot be had.
            ValueError: The pipeline gives pictures of another number or size.
        """
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a pipeline calls out of date in its own parts
            self._set_scheduler(rows[0])
            output = self._pipe(**self._words(rows), **self._numbers(rows[0]), output_type="np")
        pictures = _as_tensor(output.images if hasattr(output, "images") else output[0])
        first = rows[0]
        if pictures.shape != (len(rows), 3, first.height_px, first.width_px):
            drawn = "x".join(str(side) for side in reversed(pictures.shape[2:]))
            raise ValueError(
                f"the pipeline drew {len(pictures)} pictures of {drawn}, not {len(rows)} of "
                f"{first.width_px}x{first.height_px}: ask for a size that it can draw"
            )
        return pictures

    def _words(self, rows: Sequence[RenderRow]) -> dict[str, Any]:
        """What is each row's own; a row alone is given as a single one is."""
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        words: dict[str, Any] = {"generator": _alone(generators)}
        if self._fact["way"] == "text":
            words["prompt"] = _alone([row.prompt for row in rows])
            if rows[0].negative_prompt and self.takes_negative:
                words["negative_prompt"] = _alone([row.negative_prompt for row in rows])
        elif self._fact["way"] == "class":
            words["class_labels"] = self._pipe.get_label_ids([row.prompt for row in rows])
        else:
            words["batch_size"] = len(rows)
        return words

    def _numbers(self, row: RenderRow) -> dict[str, Any]:
        """What all rows of a call share, as far as the pipeline takes it."""
        said = {
            "height": row.height_px,
            "width": row.width_px,
            "num_inference_steps": row.num_inference_steps,
            "guidance_scale": row.guidance_scale,
            "true_cfg_scale": row.true_cfg_scale,
            "use_resolution_binning": False,
        }
        if "guidance_scale" not in self._fact["defaults"]:
            del said["guidance_scale"]
        if row.num_inference_steps != self._fact["defaults"].get("num_inference_steps"):
            said["intermediate_timesteps"] = None  # its default is for its own number of steps
        return {key: value for key, value in said.items() if key in self._takes}

    def _set_scheduler(self, row: RenderRow) -> None:
        if self._own is None:
            return
        overrides = json.loads(row.scheduler_config or "{}")
        if row.scheduler == self.scheduler and not overrides:
            made = type(self._own).from_config(self._own.config)
        else:
            steps, config = row.num_inference_steps, dict(self._own.config)
            setting = scheduler_setting(row.scheduler, config, overrides, steps)
            made = scheduler_class(setting.name).from_config(dict(setting.config))
        for stepper in self._steppers:
            stepper.scheduler = made


def _alone(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def _as_tensor(images: Any) -> Tensor:
    """Pictures in any form that pipelines give, as `[n, 3, H, W]`; grey ones in three channels.

    Raises:
        InputError: It is none of these forms.
    """
    if isinstance(images, list) and images and isinstance(images[0], Tensor):
        images = torch.stack(images)
    if isinstance(images, list):
        images = np.stack([np.asarray(image, np.float32) / 255 for image in images])
    if isinstance(images, np.ndarray):
        stacked = images[..., None] if images.ndim == 3 else images
        images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(stacked, -1, 1)))
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise InputError(f"the pipeline gives {type(images).__name__}, no pictures")
    pictures = images.detach().float().cpu()
    return pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures

"""A diffusers folder of any pipeline becomes a renderer that calls it whole.

Read from disk alone: no network, no code from the model, weights only as safetensors. A
safety checker is left out: judging pictures is a scorer's matter.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch

from sdbatch.errors import DeviceMemoryError, ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.records import ModelFacts, RenderRow
from sdbatch.render.device import (
    DTYPES,
    PASS_ERRORS,
    be_exact,
    choose_device,
    choose_dtype,
    describe,
    is_out_of_memory,
    keep_freed_memory,
    others_on,
    use_threads,
)
from sdbatch.render.diffusers_folder import quiet
from sdbatch.render.families.any_pipeline import PIPELINES, cell_px
from sdbatch.render.lane_count import cpu_lanes, gpu_lanes
from sdbatch.render.pipelines.pipeline_call import PipelineCall
from sdbatch.render.pipelines.pipeline_renderer import PipelineRenderer, places_of
from sdbatch.render.waiting import Size
from sdbatch.render.weights.folder_facts import folder_facts
from sdbatch.render.weights.model_revision import variant_of, weighted_parts

LEFT_OUT = ("safety_checker", "feature_extractor", "watermarker")
TRIAL_STEPS = 2


def load_pipeline(spec: RenderSpec, sizes: Sequence[Size] = ()) -> PipelineRenderer:
    """Load the pipeline that `spec.model_path` holds.

    Args:
        spec: What to load and how; nothing in it reaches into the pipeline's parts.
        sizes: Picture sizes (width, height) whose lanes are to be settled at once.

    Raises:
        ModelError: A part is missing or is not what the folder says.
        DeviceMemoryError: The weights do not fit.
    """
    folder = Path(spec.model_path)
    use_threads(spec.cpu_threads)
    be_exact()
    device = choose_device(spec.device)
    facts = folder_facts(spec.model, folder, spec.model_revision, 0)
    fact = PIPELINES[facts.pipeline_class]
    dtype = choose_dtype(spec.dtype, device)
    if dtype != "float32" and not fact.get("half", True):
        if spec.dtype != "auto":
            raise ModelError(f"--dtype {dtype}: {facts.pipeline_class} draws in float32 alone")
        dtype = "float32"
    notes = others_on(device)
    try:
        with quiet():
            pipe = _loaded(folder, facts.pipeline_class, device, DTYPES[dtype])
    except PASS_ERRORS as error:
        if is_out_of_memory(error):
            raise DeviceMemoryError(f"model {spec.model}: the weights do not fit") from error
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"model {spec.model}: cannot be loaded from {folder}: {reason}") from error
    if device.type == "cpu":
        keep_freed_memory()
    call = PipelineCall(pipe, fact)
    usual = _usual(facts, getattr(pipe, "labels", None))
    index = json.loads((folder / "model_index.json").read_text())
    renderer = PipelineRenderer(
        env=describe(device, dtype, facts.pipeline_class, spec.cpu_threads),
        call=call,
        usual=usual,
        choose_lanes=_lane_chooser(call, usual, device, cell_px(spec.model, folder, index)),
        lanes=spec.lanes,
        cpu_threads=spec.cpu_threads,
        strict_pixels=spec.strict_pixels,
        notes=notes,
    )
    for size in sizes:
        renderer.lanes_for(size)
    return renderer


def _loaded(folder: Path, pipeline_class: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline on its device."""
    made = getattr(diffusers, pipeline_class)
    takes = inspect.signature(made.__init__).parameters
    without: dict[str, Any] = {part: None for part in LEFT_OUT if part in takes}
    if "requires_safety_checker" in takes:
        without["requires_safety_checker"] = False
    variants = (variant_of(folder / part) for part in weighted_parts(folder))
    pipe = made.from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=True,
        dtype=dtype,
        variant=next(filter(None, variants), None),
        **without,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def _usual(facts: ModelFacts, labels: Mapping[str, int] | None) -> RenderRow:
    """A row as the model would have it; of its first class where it draws classes."""
    usual = facts.defaults
    return RenderRow(
        row_index=0,
        image_index=0,
        row_id="",
        prompt=min(labels, key=labels.__getitem__) if labels else "",
        negative_prompt="",
        seed=0,
        width_px=usual.width,
        height_px=usual.height,
        num_inference_steps=usual.num_inference_steps,
        guidance_scale=usual.guidance_scale,
        scheduler=usual.scheduler,
        true_cfg_scale=usual.true_cfg_scale,
    )


def _lane_chooser(
    call: PipelineCall, usual: RenderRow, device: torch.device, cell: int
) -> Callable[[Size], int]:
    def choose(size: Size) -> int:
        if device.type not in ("cuda", "xpu"):
            return cpu_lanes((max(1, size[1] // cell), max(1, size[0] // cell)))
        return gpu_lanes(partial(_trial, call, usual, size), device)

    return choose


def _trial(call: PipelineCall, usual: RenderRow, size: Size, lanes: int) -> None:
    """A call of L lanes, in few steps: its peak is that of one step, or of the decoder."""
    steps = min(TRIAL_STEPS, usual.num_inference_steps)
    row = replace(usual, width_px=size[0], height_px=size[1], num_inference_steps=steps)
    call.draw([row] * places_of(row, lanes))

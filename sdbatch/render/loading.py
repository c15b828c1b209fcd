"""Weights become a renderer.

A diffusers folder, or a checkpoint in one file, is read from disk alone: no network, no code
from the model, weights only as safetensors. On another node the model may lie elsewhere, so
it is found again by name there, and its revision must be the planned one. `fake:...` models
need no torch, so torch is imported only when a real one is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.fake import FAKE_PREFIX, FakeRenderer
from sdbatch.render.families.any_pipeline import is_whole
from sdbatch.render.protocol import Renderer
from sdbatch.render.weights.fetched_model import Need, is_fetched
from sdbatch.render.weights.model_facts import find_model
from sdbatch.render.weights.model_json import read_json
from sdbatch.render.weights.single_file import model_folder, place_revision

if TYPE_CHECKING:
    from sdbatch.render.renderer import LaneRenderer

SHA256_DIGITS = 64
"""A local revision's length; a commit on the Hub is shorter."""


def load_renderer(spec: RenderSpec, sizes: Sequence[tuple[int, int]]) -> Renderer:
    """Load a model.

    Args:
        spec: What to load and how; `auto` and missing lanes are settled here.
        sizes: Picture sizes (width, height) whose lanes are to be settled at once.

    Raises:
        ModelError: The model is not there, is not the planned one, or cannot be drawn with.
        DeviceMemoryError: The weights, or a pass, do not fit.
    """
    if spec.model_path.startswith(FAKE_PREFIX):
        return FakeRenderer(spec, sizes)
    started = time.perf_counter()
    renderer = _load(spec, sizes)
    renderer.counters.phase_seconds["load"] += time.perf_counter() - started
    return renderer


def _load(spec: RenderSpec, sizes: Sequence[tuple[int, int]]) -> Renderer:
    """The renderer that fits the folder's pipeline, its lanes settled."""
    with model_folder(_place(spec), spec.model) as folder:
        here = replace(spec, model_path=str(folder))
        index = read_json(spec.model, folder / "model_index.json")
        if is_whole(str(index.get("_class_name"))):
            from sdbatch.render.pipelines.pipeline_folder import load_pipeline

            return load_pipeline(here, sizes)
        from sdbatch.render.diffusers_folder import load_folder
        from sdbatch.render.memory.falling_back import first_that_loads

        return first_that_loads(here, lambda one: _settled(load_folder(one, sizes), one, sizes))


def _settled(
    renderer: LaneRenderer, spec: RenderSpec, sizes: Sequence[tuple[int, int]]
) -> LaneRenderer:
    """The same renderer, its lanes chosen and its switches tried."""
    for size in sizes:
        renderer.lanes_for(size)
        if spec.speed.compile or spec.speed.attention != "auto":
            renderer.try_pass(size)
    return renderer


def _place(spec: RenderSpec) -> Path:
    """Where this machine has the planned weights."""
    folder = Path(spec.model_path)
    if not folder.exists():
        planned = spec.model_revision if is_fetched(spec.model_revision) else ""
        folder = Path(find_model(spec.model, Need(revision=planned)).path)
    if not spec.model_revision:
        return folder
    from_hub = len(spec.model_revision) != SHA256_DIGITS
    revision = folder.name if from_hub else place_revision(spec.model, folder)
    if revision != spec.model_revision:
        raise ModelError(
            f"model {spec.model}: {folder} has revision {revision[:12]}, the plan wants "
            f"{spec.model_revision[:12]}: use the same weights on every machine"
        )
    return folder

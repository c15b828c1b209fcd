"""Weights become a renderer.

A diffusers folder is read from disk alone: no network, no code from the model, weights
only as safetensors. The revision is not looked at again here; the plan has done that.
`fake:...` models need no torch, so torch is imported only when a real one is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sdbatch.records import RenderSpec
from sdbatch.render.fake import FAKE_PREFIX, FakeRenderer
from sdbatch.render.protocol import Renderer

if TYPE_CHECKING:
    from sdbatch.render.renderer import LaneRenderer


def load_renderer(spec: RenderSpec, sizes: Sequence[tuple[int, int]]) -> Renderer:
    """Load a model.

    Args:
        spec: What to load and how; `auto` and missing lanes are settled here.
        sizes: Picture sizes (width, height) whose lanes are to be settled at once.

    Raises:
        ModelError: The folder is no model this version can draw with.
        DeviceMemoryError: The weights do not fit.
    """
    if spec.model_path.startswith(FAKE_PREFIX):
        return FakeRenderer(spec, sizes)
    started = time.perf_counter()
    renderer = _load(spec)
    for size in sizes:
        renderer.lanes_for(size)
    renderer.counters.phase_seconds["load"] += time.perf_counter() - started
    return renderer


def _load(spec: RenderSpec) -> LaneRenderer:
    from sdbatch.render.diffusers_folder import load_folder

    return load_folder(replace(spec, lanes=dict(spec.lanes)))

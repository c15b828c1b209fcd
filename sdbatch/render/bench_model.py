"""What a benchmark asks of this room: a loaded model, its arithmetic, its memory.

`engine/bench_run.py` knows no torch; everything it must ask torch for is asked here.
"""

from __future__ import annotations

import time

import torch

from sdbatch.errors import EngineError
from sdbatch.records import ANY_SIZE, RenderSpec
from sdbatch.render.architecture import Architecture
from sdbatch.render.device import DTYPES, choose_device, choose_dtype, use_threads
from sdbatch.render.diffusers_folder import load_folder
from sdbatch.render.flops import Peak, heaviest_layers, measured_peak, pass_flops
from sdbatch.render.lane_count import cpu_lanes
from sdbatch.render.memory_need import MemoryNeed, check_fits, memory_need
from sdbatch.render.peak_memory import MemoryWatch
from sdbatch.render.plain_pipeline import PlainPipeline
from sdbatch.render.random_model import Modules, load_random, make_modules
from sdbatch.render.renderer import LaneRenderer

Size = tuple[int, int]
"""(width, height) in pixels."""


class BenchModel:
    """A model that is measured at one picture size.

    Args:
        architecture: Its shapes.
        spec: How to load it.
        size: Picture size.
        random_weights: Make the weights up instead of reading them.

    Attributes:
        need: What it is expected to take.
        watch: Memory it does take; enter before `load`.

    Raises:
        InputError: The device has no memory for it.
    """

    def __init__(
        self, architecture: Architecture, spec: RenderSpec, size: Size, *, random_weights: bool
    ) -> None:
        device = choose_device()
        dtype = choose_dtype(spec.dtype, device)
        self._architecture, self._spec, self._size = architecture, spec, size
        self._random, self._device, self._dtype = random_weights, device, DTYPES[dtype]
        self._renderer: LaneRenderer | None = None
        self._modules = make_modules(architecture, torch.device("meta"), self._dtype)
        lanes = spec.lanes.get(ANY_SIZE) or self._expected_lanes()
        self.need: MemoryNeed = memory_need(self._modules, architecture, self._dtype, lanes, size)
        self.watch = MemoryWatch(device)
        check_fits(architecture, self.need, dtype, lanes, size, device)

    @property
    def renderer(self) -> LaneRenderer:
        """The loaded model."""
        if self._renderer is None:
            raise EngineError("the model is not loaded yet")
        return self._renderer

    @property
    def lanes(self) -> int:
        """L at the measured size."""
        return self.renderer.lanes_for(self._size)

    def load(self) -> float:
        """Load the model; returns the seconds it took.

        Raises:
            ModelError: It cannot be loaded.
            DeviceMemoryError: The weights do not fit after all.
        """
        started = time.perf_counter()
        if self._random:
            self._renderer = load_random(self._spec, self._architecture)
        else:
            self._renderer = load_folder(self._spec)
        return time.perf_counter() - started

    def pass_flops(self) -> int:
        """Floating-point operations of one pass."""
        return pass_flops(*self._pass)

    def peak(self) -> Peak:
        """The most arithmetic this device gave in a short measurement, in the same format."""
        use_threads(self._spec.cpu_threads)
        with torch.inference_mode():
            return measured_peak(self._device, self._dtype, heaviest_layers(*self._pass))

    def plain_pipeline(self) -> PlainPipeline:
        """The pipeline of diffusers over the same weights."""
        config = self._architecture.scheduler
        return PlainPipeline(self.renderer, config, self._spec.cpu_threads)

    def finish(self) -> None:
        """Wait for the device: what was asked of it is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @property
    def _pass(self) -> tuple[Modules, int, tuple[int, int], tuple[int, int]]:
        return self._modules, self.lanes, self._cells, self._architecture.embeds_shape

    @property
    def _cells(self) -> tuple[int, int]:
        scale = self._architecture.scale
        return (self._size[1] // scale, self._size[0] // scale)

    def _expected_lanes(self) -> int:
        """L of the rule on a CPU; on a GPU at least one guided row must fit."""
        return 2 if self._device.type == "cuda" else cpu_lanes(self._cells)

"""What a benchmark asks of this room: a loaded model, its arithmetic, its memory.

`engine/bench_run.py` knows no torch; everything it must ask torch for is asked here.
"""

from __future__ import annotations

import time

import torch

from sdbatch.errors import EngineError
from sdbatch.model_specs import RenderSpec
from sdbatch.records import ANY_SIZE
from sdbatch.render.accelerators import counts_peaks, synchronize
from sdbatch.render.architecture import Architecture
from sdbatch.render.device import DTYPES, choose_device, choose_dtype, use_threads
from sdbatch.render.diffusers_folder import load_folder
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.flops import Peak, heaviest_layers, measured_peak, pass_flops
from sdbatch.render.lane_count import cpu_lanes
from sdbatch.render.memory.memory_modes import OFFLOAD, ROOMS, needs_of
from sdbatch.render.memory.memory_need import MemoryNeed, check_fits, demand_room, memory_need
from sdbatch.render.memory.peak_memory import MemoryWatch
from sdbatch.render.plain_pipeline import PlainPipeline
from sdbatch.render.random_model import load_random, make_rooms
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
        need: What it takes with all of it on the device.
        expected: Bytes that it is expected to take there as it is held.
        watch: Memory it does take; enter before `load`.

    Raises:
        InputError: The device has no memory for it.
    """

    def __init__(
        self, architecture: Architecture, spec: RenderSpec, size: Size, *, random_weights: bool
    ) -> None:
        device = choose_device(spec.device)
        dtype = choose_dtype(spec.dtype, device)
        self._architecture, self._spec, self._size = architecture, spec, size
        self._random, self._device, self._dtype = random_weights, device, DTYPES[dtype]
        self._renderer: LaneRenderer | None = None
        self._rooms = make_rooms(architecture, torch.device("meta"), self._dtype)
        lanes = spec.lanes.get(ANY_SIZE) or self._expected_lanes()
        self.need: MemoryNeed = memory_need(self._rooms, lanes, size)
        self.watch = MemoryWatch(device)
        if spec.memory in (ROOMS, OFFLOAD):
            needs = needs_of(self._rooms, lanes, size, device)
            self.expected = needs.of(spec.memory)
            demand_room(spec, self.expected, device)
        else:
            self.expected = self.need.total
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
        synchronize(self._device)

    @property
    def _pass(self) -> tuple[Rooms, int, tuple[int, int]]:
        return self._rooms, self.lanes, self._cells

    @property
    def _cells(self) -> tuple[int, int]:
        scale = self._architecture.scale
        return (self._size[1] // scale, self._size[0] // scale)

    def _expected_lanes(self) -> int:
        """L of the rule on a CPU; on a GPU at least one guided row must fit."""
        return 2 if counts_peaks(self._device) else cpu_lanes(self._cells)

"""How many lanes a pass should have, where nobody has said.

On a CPU the count is a rule, so that every worker of every run draws the same pixels. On
a GPU it is found once per size, before the run: passes of 2, 4, 8 ... lanes are tried, each
with the decode of a chunk while the lanes stand beside it, as in the run itself. The count
is then part of the plan and never changes with the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from sdbatch.errors import DeviceMemoryError
from sdbatch.render.accelerators import (
    free_and_total,
    held_bytes,
    peak_bytes,
    reset_peak,
    synchronize,
)
from sdbatch.render.deep_cache import lanes_of
from sdbatch.render.denoiser import NoiseModel
from sdbatch.render.device import PASS_ERRORS, free_memory, is_out_of_memory
from sdbatch.render.image_decoder import ImageDecoder, LatentDecoder

CPU_CELLS = 16 * 16 * 16
"""Latent cells in a pass where a CPU core is at its best."""

MAX_CPU_LANES = 16
MAX_GPU_LANES = 64
USABLE = 0.85
"""Share of the memory beside the weights that a trial may take at its height: the rest is
for the text encoder, pictures on their way to the host, and fragments."""

Trial = Callable[[int], None]


def cpu_lanes(cells: tuple[int, int]) -> int:
    """L for latents of `(h, w)` cells: even, at least one guided row."""
    fitting = CPU_CELLS // (cells[0] * cells[1])
    return max(2, min(MAX_CPU_LANES, fitting // 2 * 2))


def gpu_lanes(trial: Trial, device: torch.device) -> int:
    """The largest power of two that fits into the device's memory.

    Args:
        trial: Does with L lanes what a run does.
        device: A GPU that holds the weights already.

    Raises:
        DeviceMemoryError: Not even one lane fits.
    """
    free_memory()
    room, held = free_and_total(device), held_bytes(device)
    if room is None or held is None:
        raise ValueError(f"{device} does not say what it holds: its lanes follow a rule")
    (free, _), (weights, kept) = room, held
    limit = weights + USABLE * (free + kept - weights)
    lanes = largest_fitting(lambda count: _peak_bytes(trial, count, device) <= limit)
    if not lanes:
        raise DeviceMemoryError(
            f"one lane and the decoder do not fit into the {free / 2**30:.1f} GiB that are free: "
            "draw smaller pictures or use a half format"
        )
    return lanes


def largest_fitting(fits: Callable[[int], bool]) -> int:
    """The largest power of two up to `MAX_GPU_LANES` that fits; 0 for none.

    Tried upwards from one guided row, so that nothing much too large is ever tried.
    """
    if not fits(2):
        return 1 if fits(1) else 0
    lanes = 2
    while lanes < MAX_GPU_LANES and fits(2 * lanes):
        lanes *= 2
    return lanes


def run_trial(
    model: NoiseModel,
    decoder: LatentDecoder | None,
    cells: tuple[int, int],
    embeds: tuple[int, ...],
    lanes: int,
) -> None:
    """One pass of padding, and a chunk decoded while its lanes still stand, if it ever is."""
    room = lanes_of(model, lanes, cells, embeds)
    room.run_pass()
    if decoder is None:
        return
    latents = torch.zeros(model.channels, *cells, device=model.device)
    ImageDecoder(decoder).decode([latents]).pixels()


def _peak_bytes(trial: Trial, lanes: int, device: torch.device) -> float:
    """Memory at the height of a trial; infinite where there is too little."""
    reset_peak(device)
    fitted = True
    try:
        trial(lanes)
        synchronize(device)
    except PASS_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        fitted = False
    peak = peak_bytes(device)
    free_memory()  # outside `except`, whose traceback would hold the tensors
    return float(peak) if fitted else math.inf

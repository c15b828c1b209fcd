"""How many lanes a pass should have, where nobody has said.

On a CPU the count is a rule, so that every worker of every run draws the same pixels. On
a GPU it is measured once per size: two passes tell what a lane takes, free memory tells
how many fit. The count is then part of the plan and never changes with the machine.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

CPU_CELLS = 16 * 16 * 16
"""Latent cells in a pass where a CPU core is at its best."""

MAX_CPU_LANES = 16
MAX_GPU_LANES = 64
USABLE = 0.6
"""Share of free memory for a pass: the rest is for decoding and fragments."""


class Probed(Protocol):
    """The denoiser's model, as far as it is needed here."""

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def predict(self, latents: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        """Model output of inputs `[L, C, h, w]`, `[L]`, `[L, ..]`."""
        ...


def cpu_lanes(cells: tuple[int, int]) -> int:
    """L for latents of `(h, w)` cells: even, at least one guided row."""
    fitting = CPU_CELLS // (cells[0] * cells[1])
    return max(2, min(MAX_CPU_LANES, fitting // 2 * 2))


def gpu_lanes(model: Probed, cells: tuple[int, int], embeds: tuple[int, ...]) -> int:
    """L for latents of `(h, w)` cells: the largest power of two that fits, by two passes."""
    small, large = (_peak_bytes(model, cells, embeds, lanes) for lanes in (2, 4))
    per_lane = max(1.0, (large - small) / 2)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(model.device)
    fitting = int(USABLE * free / per_lane)
    return max(2, min(MAX_GPU_LANES, 1 << max(0, fitting.bit_length() - 1)))


def _peak_bytes(
    model: Probed, cells: tuple[int, int], embeds: tuple[int, ...], lanes: int
) -> float:
    torch.cuda.reset_peak_memory_stats(model.device)
    with torch.inference_mode():
        latents = torch.zeros(lanes, model.channels, *cells, device=model.device)
        times = torch.zeros(lanes, device=model.device)
        model.predict(latents, times, torch.zeros(lanes, *embeds, device=model.device))
    torch.cuda.synchronize(model.device)
    return float(torch.cuda.max_memory_allocated(model.device))

"""Arithmetic: what a pass asks for, and what this device gives.

A pass is counted on the meta device by torch's own counter, so nothing runs. The peak is
measured with plain matrix products in the same number format, never taken from a
data sheet: it is what this machine does today.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sdbatch.render.pointwise import PointwiseLinear
from sdbatch.render.random_model import Modules

MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}
MATMUL_S = 0.5


@dataclass(frozen=True, slots=True)
class Peak:
    """The most arithmetic that matrix products reached here.

    Attributes:
        flops_per_s: Of the fastest product.
        side: Rows and columns of the matrices.
    """

    flops_per_s: float
    side: int


def pass_flops(
    modules: Modules, num_lanes: int, cells: tuple[int, int], embeds: tuple[int, int]
) -> int:
    """Floating-point operations of one UNet pass, a multiply-add being two.

    Args:
        modules: On the meta device.
        num_lanes: L.
        cells: (h, w) of the latents.
        embeds: (length, width) of the text embeddings.
    """
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run_unet(modules, num_lanes, cells, embeds)
    return int(counter.get_total_flops())


def run_unet(
    modules: Modules, num_lanes: int, cells: tuple[int, int], embeds: tuple[int, int]
) -> None:
    """One pass over inputs without numbers."""
    unet = modules.unet
    shape = (num_lanes, int(unet.config.in_channels), *cells)
    latents = torch.empty(shape, device="meta", dtype=unet.dtype)
    times = torch.empty(num_lanes, device="meta")
    texts = torch.empty(num_lanes, *embeds, device="meta", dtype=unet.dtype)
    unet(latents, times, encoder_hidden_states=texts, return_dict=False)


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = MATMUL_S) -> Peak:
    """The fastest of the square matrix products that fit into `seconds`, after two to warm up.

    On a CPU every other product goes the way that a pass' linear layers go, `pointwise.py`.
    """
    side = MATMUL_SIDE.get(device.type, 1024)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    ways: list[Callable[[], Tensor]] = [lambda: torch.mm(left, right)]
    if device.type == "cpu":
        ways.append(partial(_pointwise(right), left[None]))
    best, spent, runs = float("inf"), 0.0, 0
    while spent < seconds or runs < 3 * len(ways):
        taken = _timed(ways[runs % len(ways)], device)
        spent, runs = spent + taken, runs + 1
        if runs > 2 * len(ways):
            best = min(best, taken)
    return Peak(2 * side**3 / best, side)


def _pointwise(weights: Tensor) -> PointwiseLinear:
    layer = torch.nn.Linear(len(weights), weights.shape[1], bias=False, dtype=weights.dtype)
    layer.weight.data = weights.t().contiguous()
    return PointwiseLinear(layer).requires_grad_(False)


def _timed(product: Callable[[], Tensor], device: torch.device) -> float:
    started = time.perf_counter()
    product()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started

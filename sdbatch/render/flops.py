"""Arithmetic: what a pass asks for, and what this device gives.

A pass is counted on the meta device by torch's own counter, so nothing runs. The peak is
measured in the same number format, never taken from a data sheet: it is what this machine
does today with square matrices or, where those are faster, with a pass' own heaviest
layers. Layers must be asked too: a library may skip the zeros around a small picture,
which the counter counts, and many send convolutions and products to unlike libraries.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sdbatch.render.accelerators import synchronize
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.pointwise import PointwiseLinear

MATMUL_SIDE = {"cpu": 1024, "mps": 4096, "xpu": 8192, "cuda": 8192}
PEAK_S = 1.5
HEAVIEST = 8
"""Layers of a pass that are timed for the peak: together most of its arithmetic."""


class Layer(NamedTuple):
    """A convolution or linear layer of a pass, without its numbers.

    Attributes:
        kind: `nn.Conv2d` or `nn.Linear`.
        sides: What makes one: channels or features in and out, kernel, stride, padding, groups.
        inputs: Shape of what it is given.
        flops: Of one call, a multiply-add being two.
    """

    kind: type[nn.Module]
    sides: tuple[Any, ...]
    inputs: tuple[int, ...]
    flops: int

    def __str__(self) -> str:
        what = "convolution" if self.kind is nn.Conv2d else "linear layer"
        return f"a {what} of {self.sides[0]} to {self.sides[1]} on {list(self.inputs)}"


@dataclass(frozen=True, slots=True)
class Peak:
    """The most arithmetic that was reached here.

    Attributes:
        flops_per_s: Of the fastest.
        what: What was fastest.
    """

    flops_per_s: float
    what: str


def pass_flops(rooms: Rooms, num_lanes: int, cells: tuple[int, int]) -> int:
    """Floating-point operations of one pass, a multiply-add being two.

    Args:
        rooms: On the meta device.
        num_lanes: L.
        cells: (h, w) of the latents.
    """
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run_pass(rooms, num_lanes, cells)
    return int(counter.get_total_flops())


def heaviest_layers(rooms: Rooms, num_lanes: int, cells: tuple[int, int]) -> list[Layer]:
    """The layers in which a pass does most of its arithmetic, heaviest first.

    Args:
        rooms: As in `pass_flops`; likewise the rest.
    """
    spent: Counter[Layer] = Counter()
    with torch.inference_mode(), _watched(rooms.denoiser, spent):
        run_pass(rooms, num_lanes, cells)
    return [layer for layer, _ in spent.most_common(HEAVIEST)]


def run_pass(rooms: Rooms, num_lanes: int, cells: tuple[int, int]) -> None:
    """One pass over inputs without numbers."""
    model, dtype = rooms.noise_model, rooms.denoiser.dtype
    shape = (num_lanes, model.channels, *cells)
    texts = (num_lanes, *rooms.text_model.shape())
    inputs = LaneInputs(
        torch.empty(shape, device="meta", dtype=dtype),
        torch.empty(num_lanes, device="meta"),
        torch.empty(texts, device="meta", dtype=dtype),
        torch.empty(num_lanes, model.num_numbers, device="meta"),
    )
    model.predict(inputs)


def measured_peak(
    device: torch.device, dtype: torch.dtype, layers: list[Layer], seconds: float = PEAK_S
) -> Peak:
    """The most arithmetic a second of square matrix products and of a pass' layers.

    All are run in turn until `seconds` are over, after two turns to warm up, so that what
    slows a machine for a while slows them all. On a CPU layers are laid out as a pass has
    them there: channels last, linear layers as convolutions.

    Args:
        device: Where.
        dtype: Number format.
        layers: Of `heaviest_layers`; may be empty.
    """
    side = MATMUL_SIDE.get(device.type, 1024)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    ways: list[tuple[str, int, Callable[[], Tensor]]] = [
        (f"products of {side}x{side} matrices", 2 * side**3, lambda: torch.mm(left, right)),
        *((str(layer), layer.flops, _call(layer, device, dtype)) for layer in layers),
    ]
    best = dict.fromkeys(range(len(ways)), float("inf"))
    ends, turn = time.perf_counter() + seconds, 0
    while turn < 4 or time.perf_counter() < ends:
        for number, (_, _, run) in enumerate(ways):
            taken = _timed(run, device)
            if turn >= 2:
                best[number] = min(best[number], taken)
        turn += 1
    fastest = max(best, key=lambda number: ways[number][1] / best[number])
    return Peak(ways[fastest][1] / best[fastest], ways[fastest][0])


@contextmanager
def _watched(denoiser: nn.Module, spent: Counter[Layer]) -> Iterator[None]:
    """Add up the arithmetic of every convolution and linear layer that is called inside."""

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        met = _layer(layer, tuple(inputs[0].shape), outputs)
        spent[met] += met.flops

    kinds = (nn.Conv2d, nn.Linear)
    hooks = [
        one.register_forward_hook(note) for one in denoiser.modules() if isinstance(one, kinds)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _layer(layer: nn.Module, inputs: tuple[int, ...], outputs: Tensor) -> Layer:
    if isinstance(layer, nn.Conv2d):
        per_output = layer.weight[0].numel()
        sides: tuple[Any, ...] = (
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
            layer.padding, layer.dilation, layer.groups,
        )  # fmt: skip
        return Layer(nn.Conv2d, sides, inputs, 2 * outputs.numel() * per_output)
    assert isinstance(layer, nn.Linear)
    sides = (layer.in_features, layer.out_features)
    return Layer(nn.Linear, sides, inputs, 2 * outputs.numel() * layer.in_features)


def _call(layer: Layer, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """A call of such a layer, over numbers of no meaning."""
    made = layer.kind(*layer.sides, device=device, dtype=dtype).requires_grad_(False)
    inputs = torch.randn(layer.inputs, device=device).to(dtype)
    if device.type == "cpu" and isinstance(made, nn.Linear):
        made = PointwiseLinear(made)
    if device.type == "cpu" and isinstance(made, nn.Conv2d):
        made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = inputs.to(memory_format=torch.channels_last)
    return lambda: made(inputs)


def _timed(run: Callable[[], Tensor], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started

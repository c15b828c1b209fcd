"""DeepCache: most steps run only the outer layers of a UNet, on inner features kept from before.

What a UNet computes below its first resolution changes little from step to step (Ma et al.,
DeepCache, 2023). So of every N steps of a row one runs the whole model and keeps what its
last up block is given; the others run the first and the last block around what was kept.
The row's own step number decides, and features are kept per lane: neighbours never matter.
A pass is whole or outer, each with exactly L lanes; twice as many lanes are in flight, so
that one of the two kinds always has a full pass waiting. It is lossy, hence by name only.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdbatch.errors import ModelError
from sdbatch.render.denoiser import LaneRow, Lanes, NoiseModel, Pass
from sdbatch.render.families.sd import SdUnet
from sdbatch.render.lane_inputs import LaneInputs


@dataclass(frozen=True, slots=True)
class CachedUnet(SdUnet):
    """A UNet that can be called whole or, with features of an earlier call, outer layers only.

    Attributes:
        every: N: steps 0, N, 2N, ... of a row are whole.
        outer: A view of the UNet, its weights shared: first down block and last up block.
    """

    every: int = 3
    outer: Any = None

    def predict_and_keep(self, inputs: LaneInputs) -> tuple[Tensor, Tensor]:
        """As `predict`, and what the last up block was given, `[L, C', h, w]`."""
        kept: list[Tensor] = []

        def keep(_: Any, __: Any, given: dict[str, Any]) -> None:
            kept.append(given["hidden_states"])

        hook = self.unet.up_blocks[-1].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            outputs = self.predict(inputs)
        finally:
            hook.remove()
        return outputs, kept[0]

    def predict_outer(self, inputs: LaneInputs, features: Tensor) -> Tensor:
        """Model output `[L, C, h, w]` in float32 from kept features."""

        def take(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, {**given, "hidden_states": features}

        hook = self.outer.up_blocks[0].register_forward_pre_hook(take, with_kwargs=True)
        try:
            return self.call(self.outer, inputs)
        finally:
            hook.remove()


def cache_deeply(unet: NoiseModel, every: int, model: str) -> CachedUnet:
    """The same UNet, called whole in one step of `every`.

    Args:
        model: What messages call it.

    Raises:
        ModelError: It is none, or has no inner layers to leave out.
    """
    if not isinstance(unet, SdUnet):
        reason = "made for UNets, its denoiser is a transformer, leave the switch out"
        raise ModelError(f"model {model}: render.lossy: deepcache: {reason}")
    blocks = unet.unet.down_blocks, unet.unet.up_blocks
    if len(blocks[0]) < 2 or len(blocks[1]) < 2:
        reason = "its UNet has one resolution only, leave the switch out"
        raise ModelError(f"model {model}: render.lossy: deepcache: {reason}")
    return CachedUnet(unet.unet, unet.passes, unet.told, every, _outer(unet.unet))


def _outer(unet: Any) -> Any:
    """A UNet with the first down block, not scaled down, and the last up block, alone."""
    first, last = _view(unet.down_blocks[0]), _view(unet.up_blocks[-1])
    first.downsamplers = None
    outer = _view(unet)
    outer.down_blocks = torch.nn.ModuleList([first])
    outer.mid_block = None
    outer.up_blocks = torch.nn.ModuleList([last])
    return outer


def _view(module: Any) -> Any:
    """A module that shares weights and inner modules, but whose parts can be exchanged."""
    view = copy.copy(module)
    for name in ("_modules", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"):
        setattr(view, name, copy.copy(getattr(module, name)))
    return view


class CachedLanes(Lanes):
    """Lanes of a `CachedUnet`: their queue is for whole steps, a second one for outer steps."""

    def __init__(
        self, model: CachedUnet, num_lanes: int, size: tuple[int, int], embeds: tuple[int, ...]
    ) -> None:
        super().__init__(model, num_lanes, size, embeds, in_flight=2 * num_lanes)
        self._unet = model
        self._outer: deque[int] = deque()
        self._features: Tensor | None = None
        self._whole = True  # whether the pass at hand runs the whole model

    def _queue_of(self, step: int) -> deque[int]:
        return self._outer if step % self._unet.every else self._queue

    def _next_queue(self) -> deque[int]:
        """The kind of pass for which most lanes wait."""
        self._whole = len(self._queue) >= len(self._outer)
        return self._queue if self._whole else self._outer

    def _predict(self, run: Pass, inputs: LaneInputs) -> Tensor:
        real = run.lanes[: self.real_lanes]
        if self._features is not None and not self._whole:
            features = self._features[run.lanes]
            return self._unet.predict_outer(inputs, features)
        outputs, features = self._unet.predict_and_keep(inputs)
        if self._features is None:
            self._features = features.new_zeros((len(self._embeds), *features.shape[1:]))
        self._features[real] = features[: self.real_lanes]
        return outputs

    def evict(self) -> list[LaneRow]:
        """Take every row out of its lanes, as if it had never been there."""
        self._outer.clear()
        return super().evict()


def lanes_of(
    model: NoiseModel, num_lanes: int, size: tuple[int, int], embeds: tuple[int, ...]
) -> Lanes:
    """Empty lanes of the kind that the model needs."""
    kind = CachedLanes if isinstance(model, CachedUnet) else Lanes
    return kind(model, num_lanes, size, embeds)  # type: ignore[arg-type]

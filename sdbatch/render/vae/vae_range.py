"""Enough range to decode in, for autoencoders that float16 is too narrow for.

Some (`force_upcast` in their configuration, SDXL's among them) reach numbers that float16
does not hold, and give NaN. They never decode in it: where the device computes in bfloat16
their weights are kept in that, which takes no more room; elsewhere they become float32 around
each decode, and the same float16 again after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sdbatch.render.families.rooms import Rooms
from sdbatch.render.image_decoder import LatentDecoder


@dataclass(frozen=True, slots=True)
class WideDecoder:
    """A family's decoder, its weights in float32 while it decodes."""

    inner: Any
    vae: Any

    @property
    def scale(self) -> int:
        """Pixels per latent cell, in each direction."""
        return int(self.inner.scale)

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[n, 3, H, W]` around [-1, 1] in float32, from latents `[n, C, h, w]`."""
        with _widened(self.vae):
            pictures: Tensor = self.inner.decode(latents)
        return pictures


def with_range(rooms: Rooms, device: torch.device) -> Rooms:
    """The rooms with a third one that does not decode in too narrow a number type.

    Args:
        rooms: Wherever their parts lie now.
        device: Where they compute.
    """
    vae = rooms.components.get("vae")
    if vae is None or not getattr(vae.config, "force_upcast", False):
        return rooms
    if vae.dtype != torch.float16:
        return rooms
    if has_bfloat16(device):
        torch.nn.Module.to(vae, torch.bfloat16)
        return rooms
    decoder: LatentDecoder = WideDecoder(rooms.latent_decoder, vae)
    return replace(rooms, latent_decoder=decoder)


def decoded_in(rooms: Rooms) -> str:
    """The number type of decodes where `with_range` made it another one; empty elsewhere.

    It decides pixels, so it is recorded with what they were drawn on.
    """
    vae = rooms.components.get("vae")
    if isinstance(rooms.latent_decoder, WideDecoder):
        return "float32"
    moved = vae is not None and vae.dtype == torch.bfloat16 and rooms.denoiser.dtype != vae.dtype
    return "bfloat16" if moved else ""


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 by itself, rather than by detours."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "xpu" and bool(torch.xpu.is_bf16_supported())


@contextmanager
def _widened(vae: Any) -> Iterator[None]:
    """Weights in float32; afterwards the very same float16 ones as before."""
    kept = [(tensor, tensor.data) for tensor in (*vae.parameters(), *vae.buffers())]
    try:
        with torch.inference_mode(False):  # a tensor made inside it is none of a model's
            for tensor, narrow in kept:
                if narrow.dtype == torch.float16:
                    tensor.data = narrow.float()
        yield
    finally:
        for tensor, narrow in kept:
            tensor.data = narrow

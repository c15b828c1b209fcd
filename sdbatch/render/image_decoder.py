"""Room 3: latents become pixels.

Latents are decoded in chunks of a fixed size, short chunks filled up with zeros, so that
a picture does not depend on what is decoded beside it and memory has a bound. Pixels
become uint8 on the device and are copied to the host while it computes on. Prompts,
lanes and schedulers are unknown here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdbatch.render.memory.memory_rooms import RESIDENT, Residence, Room

MAX_CHUNK = 8
CHUNK_PIXELS = 1024 * 1024


class LatentDecoder(Protocol):
    """What a model family gives this room."""

    @property
    def scale(self) -> int:
        """Pixels per latent cell, in each direction."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[n, 3, H, W]` around [-1, 1] in float32, from latents `[n, C, h, w]`."""
        ...


def chunk_size(width_px: int, height_px: int) -> int:
    """Pictures per decode: a function of the size alone, since it decides pixels."""
    return max(1, min(MAX_CHUNK, CHUNK_PIXELS // (width_px * height_px)))


@dataclass(frozen=True, slots=True)
class DecodedChunk:
    """Pictures on their way to the host.

    Attributes:
        pictures: uint8 `[n, H, W, 3]` on the host, filled once `copied` has happened.
        finite: bool `[n]` likewise: False where latents or pixels hold NaN or infinity.
        copied: Event after the copy; None where there was nothing to wait for.
    """

    pictures: Tensor
    finite: Tensor
    copied: torch.cuda.Event | None

    def ready(self) -> bool:
        """Whether `pixels` would return at once."""
        return self.copied is None or bool(self.copied.query())  # type: ignore[no-untyped-call]

    def pixels(self) -> list[NDArray[np.uint8] | None]:
        """One uint8 `[H, W, 3]` per picture; None where numbers were not finite."""
        if self.copied is not None:
            self.copied.synchronize()
        flags = self.finite.tolist()
        return [self.pictures[i].numpy() if flag else None for i, flag in enumerate(flags)]


class ImageDecoder:
    """Decodes latents in chunks of a fixed size.

    Args:
        model: Of the family.
        residence: Where the model lies, and latents that wait for it.
    """

    def __init__(self, model: LatentDecoder, residence: Residence = RESIDENT) -> None:
        self._model, self._residence = model, residence

    def chunk_size(self, latents: Tensor) -> int:
        """Pictures per decode of latents `[C, h, w]`."""
        height, width = latents.shape[-2:]
        return chunk_size(width * self._model.scale, height * self._model.scale)

    def decode(self, latents: Sequence[Tensor]) -> DecodedChunk:
        """Pictures of up to `chunk_size` latents `[C, h, w]` of one shape."""
        blank = torch.zeros_like(latents[0])
        filled = [*latents, *[blank] * (self.chunk_size(blank) - len(latents))]
        self._residence.enter(Room.PICTURE)
        with torch.inference_mode():
            batch = self._residence.place(torch.stack(filled))
            images = self._model.decode(batch)[: len(latents)]
            finite = _finite(batch[: len(latents)]) & _finite(images)
            unit = (images.nan_to_num() / 2 + 0.5).clamp(0, 1)
            pictures = (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
            return _to_host(pictures, finite)


def _finite(values: Tensor) -> Tensor:
    return values.isfinite().flatten(1).all(1)


def _to_host(pictures: Tensor, finite: Tensor) -> DecodedChunk:
    if pictures.device.type != "cuda":
        return DecodedChunk(pictures.cpu(), finite.cpu(), None)
    host = torch.empty(pictures.shape, dtype=torch.uint8, pin_memory=True)
    flags = torch.empty(finite.shape, dtype=torch.bool, pin_memory=True)
    host.copy_(pictures, non_blocking=True)
    flags.copy_(finite, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()
    return DecodedChunk(host, flags, copied)

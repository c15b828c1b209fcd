"""Will it fit? Said before anything is loaded, in bytes.

Weights are counted, and so is what a pass and a decode hold at their fullest: both run
once on the meta device while every tensor that lives is added up. What kernels take for
themselves is not seen there, and a margin stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sdbatch.errors import InputError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.architecture import Architecture, architecture_names, find_architecture
from sdbatch.render.device import DTYPES
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.flops import run_pass
from sdbatch.render.image_decoder import chunk_size
from sdbatch.render.memory.counted_bytes import GB, MARGIN, free_bytes, fullest
from sdbatch.render.random_model import make_rooms
from sdbatch.render.text_encoder import CACHE_BYTES


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a model takes while it draws.

    Attributes:
        weights: Of all its models.
        denoise: What one pass holds at its fullest.
        decode: What one decode holds at its fullest.
    """

    weights: int
    denoise: int
    decode: int

    @property
    def total(self) -> int:
        """Weights, and the fuller of the two with a margin for kernels; kept embeddings."""
        return int(self.weights + MARGIN * max(self.denoise, self.decode)) + CACHE_BYTES


def memory_need(rooms: Rooms, num_lanes: int, size: tuple[int, int]) -> MemoryNeed:
    """Count what drawing pictures of `size` (width, height) takes.

    Args:
        rooms: An architecture on the meta device, in the number format it is to run in.
    """
    width, height = size
    scale, vae = rooms.latent_decoder.scale, rooms.vae
    cells = (height // scale, width // scale)
    shape = (chunk_size(width, height), int(vae.config.latent_channels), *cells)
    latents = torch.empty(shape, device="meta", dtype=vae.dtype)
    return MemoryNeed(
        weights=_weights(rooms),
        denoise=fullest(lambda: run_pass(rooms, num_lanes, cells)),
        decode=fullest(lambda: vae.decode(latents, return_dict=False)),
    )


def _weights(rooms: Rooms) -> int:
    parts = (part for part in rooms.components.values() if isinstance(part, torch.nn.Module))
    return sum(weight.nbytes for part in parts for weight in part.parameters())


def check_fits(
    architecture: Architecture,
    need: MemoryNeed,
    dtype: str,
    num_lanes: int,
    size: tuple[int, int],
    device: torch.device,
) -> None:
    """Refuse what the device has no memory for.

    Raises:
        InputError: It does not fit; what would is named.
    """
    free = free_bytes(device)
    if need.total <= free:
        return
    place = "this host" if device.type == "cpu" else "the GPU"
    fitting = " or ".join(_fitting(architecture, dtype, num_lanes, size, free))
    raise InputError(
        f"{architecture.name} as {dtype} with {num_lanes} lanes at {size[0]}x{size[1]} needs "
        f"{need.total / GB:.1f} GB ({need.weights / GB:.1f} GB of weights), {place} has "
        f"{free / GB:.1f} GB free: {f'use {fitting}' if fitting else 'nothing smaller fits'}"
    )


def demand_room(spec: RenderSpec, needed: int, device: torch.device) -> None:
    """Refuse a way of holding a model that the device has no memory for.

    Raises:
        InputError: It does not fit.
    """
    free = free_bytes(device)
    if needed > free:
        raise InputError(
            f"{spec.model} with --memory {spec.memory} needs {needed / GB:.1f} GB, {device} has "
            f"{free / GB:.1f} GB free"
        )


def _fitting(
    architecture: Architecture, dtype: str, num_lanes: int, size: tuple[int, int], free: int
) -> list[str]:
    """What to ask for instead: a smaller number format, and a smaller architecture."""
    found = []
    if DTYPES[dtype].itemsize > 2 and (total := _total(architecture, "bfloat16", num_lanes, size)):
        found += [f"--dtype bfloat16 ({total / GB:.1f} GB)"] if total <= free else []
    for name in architecture_names():
        other = find_architecture(name)
        at = (other.defaults.width, other.defaults.height)
        total = 0 if name == architecture.name else _total(other, dtype, 2, at)
        if 0 < total <= free:
            return [*found, f"--arch {name} --random-weights ({total / GB:.1f} GB)"]
    return found


def _total(architecture: Architecture, dtype: str, num_lanes: int, size: tuple[int, int]) -> int:
    rooms = make_rooms(architecture, torch.device("meta"), DTYPES[dtype])
    return memory_need(rooms, num_lanes, size).total

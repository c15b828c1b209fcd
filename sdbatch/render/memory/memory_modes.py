"""What each way of holding a model takes on a device, room by room, in bytes.

Weights are counted on a model without any (`meta_parts.py`), in the number type it would be
loaded in; what a text, a pass and a decode hold at their fullest is counted as in
`memory_need.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from sdbatch.render.families.rooms import Rooms
from sdbatch.render.flops import run_pass
from sdbatch.render.image_decoder import chunk_size
from sdbatch.render.memory.counted_bytes import MARGIN, fullest
from sdbatch.render.memory.memory_rooms import Room, modules_by_room
from sdbatch.render.memory.quantize import quantized_bytes
from sdbatch.render.text_encoder import CACHE_BYTES, CHUNK
from sdbatch.render.vae.vae_range import with_range

RESIDENT, ROOMS, OFFLOAD = "resident", "rooms", "offload"
MODES = (RESIDENT, ROOMS, OFFLOAD)
"""From the fastest to the smallest."""

LEAVES_AHEAD = 3
"""Layers of an offloaded model on the device at once: leaving, at work, on their way."""
TEXT_WORK = 64
"""Bytes a text encoder holds per byte that it gives, where it cannot be counted."""


@dataclass(frozen=True, slots=True)
class RoomNeed:
    """What one room takes.

    Attributes:
        weights: Bytes of its models.
        work: Bytes that one call holds at its fullest, beside them.
        leaf: Bytes of its largest layer.
    """

    weights: int
    work: int
    leaf: int

    @property
    def alone(self) -> int:
        """The room with nobody beside it."""
        return int(self.weights + MARGIN * self.work)

    @property
    def offloaded(self) -> int:
        """The room, its weights passing by layer by layer."""
        return int(LEAVES_AHEAD * self.leaf + MARGIN * self.work)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the three rooms take."""

    text: RoomNeed
    noise: RoomNeed
    picture: RoomNeed

    def of(self, mode: str) -> int:
        """Bytes on the device in one of `MODES`."""
        rooms = (self.text, self.noise, self.picture)
        if mode == RESIDENT:
            work = MARGIN * max(room.work for room in rooms)
            return int(sum(room.weights for room in rooms) + work) + CACHE_BYTES
        if mode == ROOMS:
            return max(room.alone for room in rooms)
        text = min(self.text.alone, self.text.offloaded)
        return max(text, self.noise.offloaded, self.picture.alone)


def needs_of(
    rooms: Rooms,
    num_lanes: int,
    size: tuple[int, int],
    device: torch.device,
    quantize: str = "",
) -> Needs:
    """Count what drawing pictures of a size takes.

    Args:
        rooms: A model on the meta device, in the number type it is to run in.
        num_lanes: L.
        size: (width, height) in pixels.
        device: Where it is to draw.
        quantize: As in `RenderSpec`.
    """
    rooms = with_range(rooms, device)
    scale = rooms.latent_decoder.scale
    cells = (size[1] // scale, size[0] // scale)
    shape = (chunk_size(*size), rooms.noise_model.channels, *cells)
    latents = torch.empty(shape, device="meta")
    modules = modules_by_room(rooms.components)

    def need(room: Room, work: int) -> RoomNeed:
        how = "" if room is Room.PICTURE else quantize
        return RoomNeed(_bytes(modules[room], how), work, _largest(modules[room]))

    return Needs(
        text=need(Room.TEXT, _text_work(rooms)),
        noise=need(Room.NOISE, fullest(lambda: run_pass(rooms, num_lanes, cells))),
        picture=need(Room.PICTURE, fullest(lambda: rooms.latent_decoder.decode(latents))),
    )


def _text_work(rooms: Rooms) -> int:
    model = rooms.text_model
    tokens, _ = model.tokenize([""] * CHUNK)
    run: Callable[[], object] = lambda: model.embed(tokens.to("meta"))  # noqa: E731
    try:
        return fullest(run)
    except (RuntimeError, NotImplementedError):  # it looks at numbers, and there are none
        height, width = model.shape()
        return TEXT_WORK * CHUNK * height * width * 2


def _bytes(modules: Iterable[Any], quantize: str) -> int:
    return sum(quantized_bytes(module, quantize) for module in modules)


def _largest(modules: Iterable[Any]) -> int:
    leaves = (leaf for module in modules for leaf in module.modules())
    return max(
        (sum(p.nbytes for p in leaf.parameters(recurse=False)) for leaf in leaves), default=0
    )

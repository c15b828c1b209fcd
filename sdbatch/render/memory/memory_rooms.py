"""Where the three rooms' models lie while nobody is in them.

Either all stay on the device; or one room's at a time, the others' on the host. What leaves
is not copied back, for weights never change: its one copy on the host is kept, in pages that
a GPU reads by itself. Who is about to use a room enters it first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol

import torch
from torch import Tensor

from sdbatch.errors import DeviceMemoryError
from sdbatch.render.device import PASS_ERRORS, free_memory, is_out_of_memory
from sdbatch.render.protocol import Counters

SWAP = "swap"
"""Phase under which moving weights is counted."""


class Room(StrEnum):
    """The three rooms."""

    TEXT = "text_encoder"
    NOISE = "denoiser"
    PICTURE = "image_decoder"


class Residence(Protocol):
    """Which room's model is on the device."""

    @property
    def phased(self) -> bool:
        """Rows should go through the rooms together, for entering another one costs time."""
        ...

    def enter(self, room: Room) -> None:
        """Have this room's model on the device from now on, whatever leaves it."""
        ...

    def place(self, tensor: Tensor) -> Tensor:
        """A tensor where models compute."""
        ...

    def keep(self, tensor: Tensor) -> Tensor:
        """A tensor that waits for its next room, where there is space for it."""
        ...


class Resident:
    """All rooms on the device: nothing is ever moved."""

    phased = False

    def enter(self, room: Room) -> None:
        """Nothing to do."""

    def place(self, tensor: Tensor) -> Tensor:
        """It is there."""
        return tensor

    def keep(self, tensor: Tensor) -> Tensor:
        """It may stay."""
        return tensor


RESIDENT = Resident()


class OneRoom:
    """One room on the device at a time.

    Args:
        rooms: The modules of each room, on the host; one that holds its device by itself, as
            offloaded ones do, is in none.
        device: Where rooms compute.
        counters: Told of the time that moving takes.

    Attributes:
        swaps: Rooms that were brought to the device.
    """

    phased = True

    def __init__(
        self, rooms: Mapping[Room, Iterable[Any]], device: torch.device, counters: Counters
    ) -> None:
        self._rooms = {
            room: [_Trunk(module, device) for module in modules] for room, modules in rooms.items()
        }
        self._device, self._counters = device, counters
        self._inside: Room | None = None
        self.swaps = 0

    def enter(self, room: Room) -> None:
        """Bring a room's model to the device, after the one that was there has left."""
        if room is self._inside:
            return
        started = time.perf_counter()
        for trunk in self._rooms.get(self._inside, ()) if self._inside else ():
            trunk.leave()
        self._inside = None
        if self._device.type != "cpu":
            free_memory()
        try:
            for trunk in self._rooms.get(room, ()):
                trunk.bring()
        except PASS_ERRORS as error:
            if is_out_of_memory(error):
                line = f"out of memory: the {room} alone does not fit on {self._device}"
                raise DeviceMemoryError(f"{line}, use --memory offload") from error
            raise
        self._inside = room
        self.swaps += 1
        spent = self._counters.phase_seconds
        spent[SWAP] = spent.get(SWAP, 0.0) + time.perf_counter() - started

    def place(self, tensor: Tensor) -> Tensor:
        """A copy on the device."""
        return tensor.to(self._device)

    def keep(self, tensor: Tensor) -> Tensor:
        """A copy on the host."""
        return tensor.cpu()


class _Trunk:
    """One module that travels."""

    def __init__(self, module: Any, device: torch.device) -> None:
        self._module, self._device = module, device
        tensors = [*module.parameters(), *module.buffers()]
        # Tensors that are wrappers around others move only as their maker wants them to.
        self._plain = all(type(one) in (Tensor, torch.nn.Parameter) for one in tensors)
        self._kept: list[tuple[Tensor, Tensor]] = []
        if self._plain:
            self._kept = [(one, _pinned(one.data, device)) for one in tensors]
            self.leave()

    def bring(self) -> None:
        """Weights to the device."""
        if not self._plain:
            torch.nn.Module.to(self._module, self._device)
        for tensor, kept in self._kept:
            tensor.data = kept.to(self._device, non_blocking=True)

    def leave(self) -> None:
        """Weights from the device."""
        if not self._plain:
            torch.nn.Module.to(self._module, "cpu")
        for tensor, kept in self._kept:
            tensor.data = kept


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the host, in pages that stay in memory where the device can read those."""
    host = tensor.cpu()
    if device.type != "cuda":
        return host
    try:
        return host.pin_memory()
    except RuntimeError:  # the system allows only so many such pages
        return host


def modules_by_room(components: Mapping[str, Any]) -> dict[Room, list[Any]]:
    """The modules of a model's parts by the room that calls them; diffusers' names tell."""
    found: dict[Room, list[Any]] = {room: [] for room in Room}
    for name, part in components.items():
        if isinstance(part, torch.nn.Module):
            found[_room_of(name)].append(part)
    return found


def _room_of(name: str) -> Room:
    if name.startswith("text_encoder"):
        return Room.TEXT
    return Room.PICTURE if name.startswith(("vae", "vqvae", "movq")) else Room.NOISE

"""A loaded model is put where its memory mode wants it."""

from __future__ import annotations

from itertools import chain

import torch

from sdbatch.model_specs import RenderSpec
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.memory.memory_choice import device_room
from sdbatch.render.memory.memory_modes import OFFLOAD, RESIDENT
from sdbatch.render.memory.memory_offload import demand_offloadable, offload
from sdbatch.render.memory.memory_rooms import RESIDENT as ALL_IN
from sdbatch.render.memory.memory_rooms import OneRoom, Residence, modules_by_room
from sdbatch.render.protocol import Counters

HOST = torch.device("cpu")


def loaded_on(mode: str, device: torch.device, quantize: str = "") -> torch.device:
    """Where weights are loaded first: models that are moved about begin on the host.

    So do those that are quantized, for the device need not have room for them as they were.
    """
    if mode == RESIDENT and (not quantize or device_room(device).shared):
        return device
    return HOST


def hold(
    mode: str, rooms: Rooms, device: torch.device, counters: Counters, spec: RenderSpec
) -> Residence:
    """Who brings the rooms' models to the device from now on.

    Args:
        mode: One of `memory_modes.MODES`.
        rooms: Loaded where `loaded_on` says, with all switches applied.
        device: Where they compute.
        counters: Told of the time that moving takes.
        spec: The switches.

    Raises:
        ModelError: A switch and the mode do not go together.
    """
    modules = modules_by_room(rooms.components)
    if mode == RESIDENT:
        for module in chain.from_iterable(modules.values()):
            torch.nn.Module.to(module, device)
        return ALL_IN
    if mode == OFFLOAD:
        demand_offloadable(spec.speed, spec.quantize, spec.model)
        modules = offload(modules, device, device_room(device).free)
    return OneRoom(modules, device, counters)

"""Weights that pass by the device layer by layer: diffusers' group offloading.

For what does not fit even with the device to itself. On CUDA the next layers are on their way
while one computes.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.hooks import apply_group_offloading

from sdbatch.errors import ModelError
from sdbatch.model_specs import Speed
from sdbatch.render.memory.counted_bytes import MARGIN
from sdbatch.render.memory.memory_rooms import Room

HOST = torch.device("cpu")


def demand_offloadable(speed: Speed, quantize: str, model: str) -> None:
    """Refuse what cannot be had of a model that passes by layer by layer.

    Raises:
        ModelError: A switch would change layers that are not there.
    """
    asked = {
        "--compile": speed.compile,
        f"render.lossy={speed.lossy}": bool(speed.lossy),
        f"--quantize {quantize}": quantize == "nf4",
    }
    for name, wanted in asked.items():
        if wanted:
            raise ModelError(f"model {model}: {name} does not go with --memory offload")


def offload(
    modules: dict[Room, list[Any]], device: torch.device, free_bytes: int
) -> dict[Room, list[Any]]:
    """Offload the denoiser, and text encoders that do not fit with the device to themselves.

    Args:
        modules: Of each room, on the host.
        device: Where they compute.
        free_bytes: There.

    Returns:
        Modules of each room that are still to be moved as wholes.
    """
    left = {room: list(found) for room, found in modules.items()}
    text = sum(weight.nbytes for one in modules[Room.TEXT] for weight in one.parameters())
    for room in (Room.NOISE, *([Room.TEXT] if MARGIN * text > free_bytes else [])):
        for module in left[room]:
            apply_group_offloading(
                module,
                onload_device=device,
                offload_device=HOST,
                offload_type="leaf_level",
                non_blocking=device.type == "cuda",
                use_stream=device.type == "cuda",
            )
        left[room] = []
    return left

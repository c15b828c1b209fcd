"""Which way of holding a model a device has room for: the fastest that fits.

A CPU, and a GPU that shares the host's memory, hold every weight anyway: moving them about
would free nothing there. What fits in no way is refused, with the smallest change that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.records import ANY_SIZE, size_name
from sdbatch.render.device import DTYPES
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.memory.counted_bytes import GB, free_bytes
from sdbatch.render.memory.memory_modes import MODES, RESIDENT, Needs, needs_of
from sdbatch.render.memory.quantize import INT8
from sdbatch.render.weights.model_revision import weight_files
from sdbatch.render.weights.single_file import weights_of

AUTO = "auto"
FEWEST_LANES = 2
AMPLE = 6
"""Free bytes per byte of weights on a host above which nothing need be counted."""
HALF_OF = {"cuda": "bfloat16", "xpu": "bfloat16", "mps": "float16", "cpu": "bfloat16"}

Empty = Callable[[torch.dtype], Rooms]
"""A model without weights, in a number type."""


@dataclass(frozen=True, slots=True)
class DeviceRoom:
    """What a device has for a model.

    Attributes:
        free: Bytes.
        shared: It is the host's own memory.
    """

    free: int
    shared: bool


@dataclass(frozen=True, slots=True)
class Asking:
    """What is to be drawn, and on what.

    Attributes:
        size: The largest picture (width, height) in pixels.
        num_lanes: L of its passes, at least.
    """

    model: str
    device: torch.device
    dtype: str
    size: tuple[int, int]
    num_lanes: int
    quantize: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """How a model is held, and what a person should hear of it."""

    mode: str
    notes: tuple[str, ...] = ()


def device_room(device: torch.device) -> DeviceRoom:
    """What is free there now."""
    return DeviceRoom(free_bytes(device), device.type in ("cpu", "mps"))


def choose_memory(
    spec: RenderSpec,
    folder: Path,
    sizes: list[tuple[int, int]],
    device: torch.device,
    dtype: str,
    empty: Empty,
) -> Chosen:
    """How to hold a model: as asked, or the first way that fits.

    Args:
        spec: What is asked for.
        folder: The model's.
        sizes: Pictures to be drawn; empty for the model's own size.
        device: Where.
        dtype: Number type of the weights.
        empty: Makes the model without weights.

    Raises:
        ModelError: It fits in no way.
    """
    if spec.memory != AUTO:
        return Chosen(spec.memory, (f"memory: {spec.memory}, as asked",))
    room = device_room(device)
    if room.shared and AMPLE * _bytes_on_disk(spec.model, folder) < room.free:
        return Chosen(RESIDENT)
    rooms = empty(DTYPES[dtype])
    size = max(sizes or _sizes_of(spec) or [_own_size(rooms)], key=lambda one: one[0] * one[1])
    lanes = spec.lanes.get(size_name(*size)) or spec.lanes.get(ANY_SIZE) or FEWEST_LANES
    asking = Asking(spec.model, device, dtype, size, lanes, spec.quantize)
    return first_that_fits(asking, room, empty)


def first_that_fits(asking: Asking, room: DeviceRoom, empty: Empty) -> Chosen:
    """The fastest way of holding a model that a device has room for.

    Raises:
        ModelError: There is none.
    """
    needs = _needs(asking, empty)
    for mode in _modes(room):
        if needs.of(mode) <= room.free:
            if mode == RESIDENT and room.shared:
                return Chosen(mode)
            return Chosen(mode, (_said(mode, needs, room, asking.device),))
    smallest = _modes(room)[-1]
    change = next(_changes(asking, room, empty), None)
    raise ModelError(
        f"model {asking.model} as {asking.dtype} at {asking.size[0]}x{asking.size[1]} with "
        f"{asking.num_lanes} lanes needs {needs.of(smallest) / GB:.1f} GB at the least"
        f"{'' if smallest == RESIDENT else f' (--memory {smallest})'}, {asking.device} has "
        f"{room.free / GB:.1f} GB free: {f'use {change}' if change else 'nothing smaller fits'}"
    )


def _modes(room: DeviceRoom) -> tuple[str, ...]:
    return (RESIDENT,) if room.shared else MODES


def _said(mode: str, needs: Needs, room: DeviceRoom, device: torch.device) -> str:
    takes, free = needs.of(mode) / GB, room.free / GB
    line = f"memory: {mode}, takes {takes:.1f} of {free:.1f} GB that are free on {device}"
    if mode == RESIDENT:
        return line
    before = MODES[MODES.index(mode) - 1]
    return f"{line} ({before} would take {needs.of(before) / GB:.1f})"


def _changes(asking: Asking, room: DeviceRoom, empty: Empty) -> Iterator[str]:
    """What to ask for instead, the smallest change first."""
    half = HALF_OF[asking.device.type]
    width, height = asking.size
    tried: list[tuple[str, dict[str, Any]]] = []
    if asking.dtype != half:
        tried.append((f"--dtype {half}", {"dtype": half}))
    if not asking.quantize:
        tried.append((f"--quantize {INT8}", {"quantize": INT8}))
    size = (width // 2 // 8 * 8, height // 2 // 8 * 8)
    flags = f"--size {size_name(*size)} --batch-size {FEWEST_LANES}"
    tried.append((flags, {"size": size, "num_lanes": FEWEST_LANES}))
    for name, change in tried:
        other = Asking(**{**_fields(asking), **change})
        takes = _needs(other, empty).of(_modes(room)[-1])
        if takes <= room.free:
            yield f"{name} ({takes / GB:.1f} GB)"


def _fields(asking: Asking) -> dict[str, Any]:
    return {name: getattr(asking, name) for name in Asking.__dataclass_fields__}


def _needs(asking: Asking, empty: Empty) -> Needs:
    rooms = empty(DTYPES[asking.dtype])
    return needs_of(rooms, asking.num_lanes, asking.size, asking.device, asking.quantize)


def _bytes_on_disk(model: str, folder: Path) -> int:
    file = weights_of(folder)
    files = [file] if file else weight_files(model, folder)
    return sum(path.stat().st_size for path in files)


def _sizes_of(spec: RenderSpec) -> list[tuple[int, int]]:
    names = (name.partition("x") for name in spec.lanes if name != ANY_SIZE)
    return [(int(width), int(height)) for width, _, height in names]


def _own_size(rooms: Rooms) -> tuple[int, int]:
    """What the denoiser was made for."""
    cells = rooms.denoiser.config.get("sample_size") or 64
    height, width = cells if isinstance(cells, (list, tuple)) else (cells, cells)
    scale = rooms.latent_decoder.scale
    return (width * scale, height * scale)

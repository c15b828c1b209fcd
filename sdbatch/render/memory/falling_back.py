"""What `auto` does where it was wrong about memory: it holds the model in a smaller way.

What is counted beforehand is an estimate, and others may take memory while weights are read.
Which way is taken changes no pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sdbatch.errors import DeviceMemoryError, ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.device import choose_device, free_memory
from sdbatch.render.memory.memory_choice import AUTO, device_room
from sdbatch.render.memory.memory_modes import OFFLOAD, ROOMS
from sdbatch.render.memory.memory_offload import demand_offloadable

if TYPE_CHECKING:
    from sdbatch.render.renderer import LaneRenderer


def first_that_loads(spec: RenderSpec, load: Callable[[RenderSpec], LaneRenderer]) -> LaneRenderer:
    """Load as asked; where `auto` runs out of memory, in the next smaller way.

    Args:
        spec: What is asked for.
        load: Loads and settles the lanes.

    Raises:
        DeviceMemoryError: It fits in no way, or not in the one that was asked for.
    """
    failed = ""
    for mode in _modes(spec):
        try:
            renderer = load(replace(spec, memory=mode))
        except DeviceMemoryError as error:
            failed = str(error)
        else:
            if failed:
                others = (note for note in renderer.notes if not note.startswith("memory:"))
                renderer.notes = (*others, f"memory: {mode}, for otherwise: {failed}")
            return renderer
        free_memory()  # outside `except`, whose traceback would hold the tensors
    raise DeviceMemoryError(failed)


def _modes(spec: RenderSpec) -> Iterator[str]:
    yield spec.memory
    if spec.memory != AUTO or device_room(choose_device(spec.device)).shared:
        return
    yield ROOMS
    try:
        demand_offloadable(spec.speed, spec.quantize, spec.model)
    except ModelError:
        return
    yield OFFLOAD

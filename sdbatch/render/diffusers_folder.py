"""A diffusers folder becomes the three rooms of a renderer.

The parts are loaded one by one rather than through a pipeline: a pipeline brings a
progress bar, a safety checker and a scheduler with call state, and none is wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from sdbatch.errors import DeviceMemoryError, ModelError
from sdbatch.model_specs import RenderEnv, RenderSpec
from sdbatch.render.accelerators import counts_peaks
from sdbatch.render.deep_cache import cache_deeply
from sdbatch.render.device import (
    DTYPES,
    PASS_ERRORS,
    be_exact,
    choose_device,
    choose_dtype,
    describe,
    free_memory,
    is_out_of_memory,
    keep_freed_memory,
    others_on,
    use_threads,
)
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.families.table import FAMILIES
from sdbatch.render.half_probe import demand_half
from sdbatch.render.lane_count import cpu_lanes, gpu_lanes, run_trial
from sdbatch.render.memory.holding import hold, loaded_on
from sdbatch.render.memory.memory_choice import choose_memory
from sdbatch.render.memory.memory_modes import RESIDENT
from sdbatch.render.memory.memory_rooms import Residence, Room
from sdbatch.render.memory.quantize import demand_quantizer, quantize_rooms, quantized_with
from sdbatch.render.protocol import Counters
from sdbatch.render.renderer import LaneRenderer
from sdbatch.render.schedulers import flow_config
from sdbatch.render.speed import Passes, apply_switches, cached_every, idle_switches, switched_env
from sdbatch.render.vae.vae_load import with_vae
from sdbatch.render.vae.vae_range import decoded_in, with_range
from sdbatch.render.waiting import Size


def load_folder(spec: RenderSpec, sizes: Sequence[Size] = ()) -> LaneRenderer:
    """Load the model that `spec.model_path` holds.

    Args:
        spec: What to load and how.
        sizes: Pictures that it is to draw, for the memory they take.

    Raises:
        ModelError: A part is missing or is not what the folder says, or it fits in no way.
        DeviceMemoryError: The weights do not fit.
    """
    folder = Path(spec.model_path)
    use_threads(spec.cpu_threads)
    be_exact()
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    notes = others_on(device)
    demand_quantizer(spec.quantize, device)
    empty = partial(_empty, spec.model, folder)
    held = choose_memory(spec, folder, list(sizes), device, dtype, empty)
    place = loaded_on(held.mode, device, spec.quantize)
    pipeline_class, scheduler, rooms = _loaded(spec, folder, place, dtype)
    sound = demand_half(spec.dtype, dtype, place, rooms, spec.model)
    if sound != dtype:
        notes += (f"{dtype} gives NaN on {device.type}: drawing in {sound}",)
        dtype = sound
        del rooms
        free_memory()
        pipeline_class, scheduler, rooms = _loaded(spec, folder, place, dtype)
    env = describe(device, dtype, pipeline_class, spec.cpu_threads)
    return join_rooms(spec, env, rooms, scheduler, (*notes, *held.notes), device, held.mode)


def _loaded(
    spec: RenderSpec, folder: Path, place: torch.device, dtype: str
) -> tuple[str, Mapping[str, Any], Rooms]:
    """Pipeline class, scheduler configuration and rooms of a folder, with the parts asked for."""
    model = spec.model
    try:
        with quiet():
            pipeline_class = _pipeline_class(folder)
            scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
            rooms = family_module(model, pipeline_class).load(folder, place, DTYPES[dtype])
            rooms = with_vae(rooms, spec.vae, folder)
            quantize_rooms(rooms, spec.quantize, DTYPES[dtype])
            rooms = with_range(rooms, choose_device(spec.device))
    except PASS_ERRORS as error:
        if is_out_of_memory(error):
            raise DeviceMemoryError(f"model {model}: the weights do not fit") from error
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"model {model}: cannot be loaded from {folder}: {reason}") from error
    return pipeline_class, scheduler, rooms


def _empty(model: str, folder: Path, dtype: torch.dtype) -> Rooms:
    """The rooms of a folder without weights."""
    family = family_module(model, _pipeline_class(folder))
    with quiet():
        rooms: Rooms = family.load(folder, torch.device("meta"), dtype)
    return rooms


def _pipeline_class(folder: Path) -> str:
    return str(json.loads((folder / "model_index.json").read_text())["_class_name"])


def family_module(model: str, pipeline_class: str) -> Any:
    """The module that fills the rooms of a pipeline class.

    Raises:
        ModelError: There is none.
    """
    if pipeline_class not in FAMILIES:
        raise ModelError(f"model {model}: {pipeline_class} is not supported")
    return import_module(f"sdbatch.render.families.{FAMILIES[pipeline_class].name}")


def join_rooms(
    spec: RenderSpec,
    env: RenderEnv,
    rooms: Rooms,
    scheduler: Mapping[str, Any],
    notes: tuple[str, ...],
    device: torch.device | None = None,
    memory: str = RESIDENT,
) -> LaneRenderer:
    """The renderer of loaded rooms, wherever their parts came from.

    Args:
        device: Where they compute; None for where they lie.
        memory: How they are held, one of `memory_modes.MODES`.

    Raises:
        ModelError: A speed switch cannot be had here.
    """
    model: Any = rooms.noise_model
    device = device or model.device
    if device.type == "cpu":
        keep_freed_memory()
    passes = apply_switches(spec.speed, rooms.denoiser, rooms.vae, spec.model, device)
    model = replace(model, passes=passes)
    every = cached_every(spec.speed)
    if every:
        model = cache_deeply(model, every, spec.model)
    rooms = replace(rooms, noise_model=model)
    counters = Counters()
    residence = hold(memory, rooms, device, counters, spec)
    more = [quantized_with(spec.quantize)] if spec.quantize else []
    more += [f"vae {spec.vae.revision[:12]}"] if spec.vae else []
    more += [f"vae in {decoded_in(rooms)}"] if decoded_in(rooms) else []
    kernels = ", ".join([switched_env(spec.speed, env), *more])
    return LaneRenderer(
        env=replace(env, kernels=kernels),
        rooms=rooms,
        scheduler_config=flow_config(scheduler) if rooms.flow else scheduler,
        choose_lanes=_lane_chooser(rooms, spec.prompt_chunks, device, residence),
        lanes=spec.lanes,
        cpu_threads=spec.cpu_threads,
        notes=(*notes, *idle_switches(spec.speed, env)),
        strict_pixels=spec.strict_pixels,
        prompt_chunks=spec.prompt_chunks,
        counters=counters,
        residence=residence,
    )


def _lane_chooser(
    rooms: Rooms, prompt_chunks: int, device: torch.device, residence: Residence
) -> Callable[[Size], int]:
    model, decoder = rooms.noise_model, rooms.latent_decoder
    passes: Passes = rooms.noise_model.passes  # type: ignore[attr-defined]
    embeds = rooms.text_model.shape(prompt_chunks)

    def choose(size: Size) -> int:
        cells = (size[1] // decoder.scale, size[0] // decoder.scale)
        if not counts_peaks(device):
            return cpu_lanes(cells)
        residence.enter(Room.NOISE)
        beside = None if residence.phased else decoder  # else it is not there with the lanes
        with passes.eager():
            return gpu_lanes(partial(run_trial, model, beside, cells, embeds), device)

    return choose


@contextmanager
def quiet() -> Iterator[None]:
    """Keep loading bars and advice of the libraries off the terminal."""
    libraries: list[Any] = [diffusers_logging, transformers_logging]
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()

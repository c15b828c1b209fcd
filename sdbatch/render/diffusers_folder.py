"""A diffusers folder becomes the three rooms of a renderer.

The parts are loaded one by one rather than through a pipeline: a pipeline brings a
progress bar, a safety checker and a scheduler with call state, and none is wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from sdbatch.errors import DeviceMemoryError, ModelError
from sdbatch.records import RenderEnv, RenderSpec
from sdbatch.render.deep_cache import cache_deeply
from sdbatch.render.device import (
    DTYPES,
    PASS_ERRORS,
    be_exact,
    choose_device,
    choose_dtype,
    describe,
    is_out_of_memory,
    keep_freed_memory,
    others_on,
    use_threads,
)
from sdbatch.render.families.known import FAMILY_DEFAULTS
from sdbatch.render.families.sd import SdTextModel, SdUnet, SdVae
from sdbatch.render.lane_count import cpu_lanes, gpu_lanes, run_trial
from sdbatch.render.renderer import LaneRenderer
from sdbatch.render.speed import apply_switches, cached_every, idle_switches, switched_env
from sdbatch.render.waiting import Size


def load_folder(spec: RenderSpec) -> LaneRenderer:
    """Load the model that `spec.model_path` holds.

    Raises:
        ModelError: A part is missing or is not what the folder says.
        DeviceMemoryError: The weights do not fit.
    """
    folder = Path(spec.model_path)
    use_threads(spec.cpu_threads)
    be_exact()
    device = choose_device()
    dtype = choose_dtype(spec.dtype, device)
    notes = others_on(device)
    try:
        with quiet():
            pipeline_class = json.loads((folder / "model_index.json").read_text())["_class_name"]
            scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
            text, unet, vae = _parts(folder, device, DTYPES[dtype])
    except PASS_ERRORS as error:
        if is_out_of_memory(error):
            raise DeviceMemoryError(f"model {spec.model}: the weights do not fit") from error
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"model {spec.model}: cannot be loaded from {folder}: {reason}") from error
    if pipeline_class not in FAMILY_DEFAULTS:
        raise ModelError(f"model {spec.model}: {pipeline_class} is not supported")
    env = describe(device, dtype, pipeline_class, spec.cpu_threads)
    return join_rooms(spec, env, (text, unet, vae), scheduler, notes)


def join_rooms(
    spec: RenderSpec,
    env: RenderEnv,
    parts: tuple[SdTextModel, SdUnet, SdVae],
    scheduler: Mapping[str, Any],
    notes: tuple[str, ...],
) -> LaneRenderer:
    """The renderer of parts that lie on their device, wherever they came from.

    Raises:
        ModelError: A speed switch cannot be had here.
    """
    text, unet, vae = parts
    if unet.device.type == "cpu":
        keep_freed_memory()
    unet = replace(unet, passes=apply_switches(spec.speed, unet.unet, vae.vae, spec.model))
    every = cached_every(spec.speed)
    if every:
        unet = cache_deeply(unet, every, spec.model)
    return LaneRenderer(
        env=replace(env, kernels=switched_env(spec.speed, env)),
        text_model=text,
        noise_model=unet,
        latent_decoder=vae,
        scheduler_config=scheduler,
        choose_lanes=_lane_chooser(unet, vae, text, spec.prompt_chunks),
        lanes=spec.lanes,
        cpu_threads=spec.cpu_threads,
        notes=(*notes, *idle_switches(spec.speed, env)),
        strict_pixels=spec.strict_pixels,
        prompt_chunks=spec.prompt_chunks,
    )


def _parts(
    folder: Path, device: torch.device, dtype: torch.dtype
) -> tuple[SdTextModel, SdUnet, SdVae]:
    """Tokenizer, text encoder, UNet and VAE on the device."""
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "dtype": dtype}
    tokenizer = transformers.CLIPTokenizer.from_pretrained(
        str(folder / "tokenizer"), local_files_only=True
    )
    text = transformers.CLIPTextModel.from_pretrained(str(folder / "text_encoder"), **options)
    unet = diffusers.UNet2DConditionModel.from_pretrained(str(folder / "unet"), **options)
    vae = diffusers.AutoencoderKL.from_pretrained(str(folder / "vae"), **options)
    for part in (text, unet, vae):
        torch.nn.Module.to(part, device).requires_grad_(False).eval()
    return SdTextModel(tokenizer, text), SdUnet(unet), SdVae(vae)


def _lane_chooser(
    unet: SdUnet, vae: SdVae, text: SdTextModel, prompt_chunks: int
) -> Callable[[Size], int]:
    length, width = text.embeds_shape

    def choose(size: Size) -> int:
        cells = (size[1] // vae.scale, size[0] // vae.scale)
        if unet.device.type != "cuda":
            return cpu_lanes(cells)
        with unet.passes.eager():
            trial = partial(run_trial, unet, vae, cells, (prompt_chunks * length, width))
            return gpu_lanes(trial, unet.device)

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

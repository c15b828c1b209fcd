"""What a plan must know of a diffusers folder: its configurations, read without torch.

Families differ in where their denoiser lies and which sizes they take; that is data
(`families/table.py`), and what a family can be no model for is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.manifest.prompt_syntax import PLAIN
from sdbatch.records import ModelFacts, RowDefaults
from sdbatch.render.families.any_pipeline import whole_facts
from sdbatch.render.families.known_models import known_settings
from sdbatch.render.families.table import FAMILIES, Family
from sdbatch.render.weights.model_json import read_json as read_json
from sdbatch.render.weights.model_revision import check_shards, weight_files

TOLD_SIZES = "text_time"
"""The `addition_embed_type` of SDXL."""
SIZE_NUMBERS = 6
"""What a UNet of SDXL is told of a picture: two sizes and the corner of a crop."""


def folder_facts(
    name: str, folder: Path, revision: str, weights_bytes: int | None = None
) -> ModelFacts:
    """Facts of a diffusers folder.

    Args:
        name: What messages call the model.
        folder: Where its configurations lie.
        revision: Which weights these are.
        weights_bytes: Their size where they are not fetched yet; None looks at them.

    Raises:
        ModelError: A part is missing or cannot be read, or this version cannot draw with it.
    """
    index = read_json(name, folder / "model_index.json")
    check_shards(name, folder, whole=weights_bytes is None)
    pipeline_class = str(index.get("_class_name"))
    if pipeline_class not in FAMILIES:
        size = _size(name, folder) if weights_bytes is None else weights_bytes
        return whole_facts(name, folder, index, revision, size)
    family = FAMILIES[pipeline_class]
    named = [part for part in family.optional if (index.get(part) or [None])[0]]
    for part in (*family.parts, *named):
        if not (folder / part).is_dir():
            raise ModelError(f"model {name}: the folder has no {part}/")
    denoiser = read_json(name, folder / family.denoiser / "config.json")
    family = family.told(denoiser)
    vae = read_json(name, folder / "vae/config.json")
    scheduler = read_json(name, folder / "scheduler/scheduler_config.json")
    _check_denoiser(name, family, denoiser, vae)
    _check_told(name, folder, denoiser)
    scale = vae_scale(vae)
    defaults, sources = _defaults(name, family, denoiser, scheduler, index, scale)
    words = folder / "words.txt"
    return ModelFacts(
        name=name,
        path=str(folder),
        revision=revision,
        pipeline_class=pipeline_class,
        defaults=defaults,
        sources=sources,
        size_multiple_px=math.lcm(family.size_step_px, scale),
        num_train_timesteps=int(scheduler.get("num_train_timesteps", 1000)),
        size_bytes=_size(name, folder) if weights_bytes is None else weights_bytes,
        words=frozenset(words.read_text().split()) if words.is_file() else frozenset(),
        notes=(family.note,) if family.note else (),
        flow=family.flow,
        max_size_px=_max_size(denoiser, scale),
        only={} if family.weighted else {"defaults.prompt_syntax": (PLAIN,)},
    )


def _max_size(denoiser: Mapping[str, Any], scale: int) -> int | None:
    """Pixels of the side that a table of positions is learnt for; None without one."""
    patches = denoiser.get("pos_embed_max_size")
    return int(patches * denoiser.get("patch_size", 1) * scale) if patches else None


def _size(name: str, folder: Path) -> int:
    return sum(path.stat().st_size for path in weight_files(name, folder))


def vae_scale(vae: Mapping[str, Any]) -> int:
    """Pixels per latent cell, in each direction, from an autoencoder's configuration."""
    blocks = vae.get("block_out_channels") or vae["encoder_block_out_channels"]
    return int(2 ** (len(blocks) - 1))


def _check_denoiser(
    name: str, family: Family, denoiser: Mapping[str, Any], vae: Mapping[str, Any]
) -> None:
    """Refuse what this family's rooms cannot be filled with."""
    channels, latent = denoiser.get("in_channels"), int(vae.get("latent_channels") or 0)
    if channels != latent * family.latent_factor:
        raise ModelError(
            f"model {name}: its {family.denoiser} takes {channels} channels and its VAE has "
            f"{latent}: an inpainting or editing model, this version draws from text"
        )
    if denoiser.get("time_cond_proj_dim") is not None:
        raise ModelError(f"model {name}: its UNet embeds guidance, which is not supported")
    if denoiser.get("guidance_embeds") and not family.embeds_guidance:
        raise ModelError(
            f"model {name}: its {family.denoiser} embeds guidance, which {family.name} does not"
        )
    if denoiser.get("addition_embed_type") not in family.additions:
        raise ModelError(f"model {name}: its UNet wants more than text, which is not supported")


def _check_told(name: str, folder: Path, denoiser: Mapping[str, Any]) -> None:
    """Refuse a UNet that is told of something else than a picture's sizes."""
    if denoiser.get("addition_embed_type") != TOLD_SIZES:
        return
    pooled = read_json(name, folder / "text_encoder_2/config.json").get("projection_dim", 512)
    given = SIZE_NUMBERS * int(denoiser["addition_time_embed_dim"]) + int(pooled)
    wanted = denoiser.get("projection_class_embeddings_input_dim")
    if wanted != given:
        raise ModelError(
            f"model {name}: its UNet takes {wanted} numbers beside text and would get {given}: "
            "a refiner or an editing model, this version draws from text"
        )


def _defaults(
    name: str,
    family: Family,
    denoiser: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    index: Mapping[str, Any],
    scale: int,
) -> tuple[RowDefaults, dict[str, str]]:
    """Settings of rows that say nothing: known model, else configuration, else family."""
    best, source = known_settings(name) or (family.usual, f"family {family.name}")
    cells = denoiser.get("sample_size") or family.sample_cells
    height, width = cells if isinstance(cells, list) else (cells, cells)
    own: dict[str, Any] = {"width": width * scale, "height": height * scale}
    own["scheduler"] = str(scheduler.get("_class_name") or index["scheduler"][1])
    said = {key: getattr(best, key) for key in own}
    values = {key: own[key] if said[key] is None else said[key] for key in own}
    sources = {key: "its config" if said[key] is None else source for key in own}
    defaults = RowDefaults(
        negative_prompt="",
        num_inference_steps=best.num_inference_steps,
        guidance_scale=best.guidance_scale,
        scheduler_config=best.scheduler_config,
        num_images_per_prompt=1,
        true_cfg_scale=1.0 if family.embeds_guidance else None,
        micro_conditioning="" if TOLD_SIZES in family.additions else None,
        **values,
    )
    sources |= {"num_inference_steps": source, "guidance_scale": source}
    rest = dict.fromkeys(("negative_prompt", "num_images_per_prompt"), f"family {family.name}")
    if family.embeds_guidance:
        rest["true_cfg_scale"] = f"family {family.name}"
    rest["scheduler_config"] = source if best.scheduler_config else f"family {family.name}"
    sources |= dict.fromkeys(("prompt_syntax", "micro_conditioning"), "default")
    return defaults, sources | rest

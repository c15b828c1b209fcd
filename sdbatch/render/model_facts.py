"""What a plan must know of a model, read from its files without torch.

A name is the embedded model, a local diffusers folder, a `fake` one, or an id on the Hub.
Whatever cannot be drawn with is refused here, before anything starts: this room is asked
by `plan` and by the driver, on machines that need no GPU and no torch.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError
from sdbatch.records import ModelFacts, RowDefaults
from sdbatch.render.fake import FAKE_PREFIX, fake_options
from sdbatch.render.families.known import FAMILY_DEFAULTS, KNOWN
from sdbatch.render.hub import snapshot
from sdbatch.render.model_revision import PARTS, local_revision, weight_files

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SIZE_STEP_PX = 8
"""diffusers' pipelines of this family take multiples of 8, whatever the VAE's scale."""


def find_model(name: str) -> ModelFacts:
    """Find a model by name and read what a plan needs.

    Args:
        name: `shapes`, a folder, `fake[:key=value,...]`, or `org/name` on the Hub.

    Raises:
        ModelError: It is not there, or this version cannot draw with it.
    """
    if name == "fake" or name.startswith(FAKE_PREFIX):
        return _fake_facts(name)
    folder = _local_folder(name)
    if folder is not None:
        return _folder_facts(name, folder, local_revision(name, folder))
    if HUB_ID.fullmatch(name) and not name.startswith("."):
        path = snapshot(name)
        return _folder_facts(name, path, path.name)
    near = difflib.get_close_matches(name, [*KNOWN, "fake"], n=1, cutoff=0.4)
    hint = f", did you mean '{near[0]}'?" if near else ""
    raise ModelError(
        f"model '{name}' is neither known nor a diffusers folder{hint or ':'} "
        f"use {', '.join(KNOWN)}, a folder, or org/name on the Hub"
    )


def scheduler_config(model: ModelFacts) -> Mapping[str, Any]:
    """The model's own scheduler configuration; empty for a fake one.

    Raises:
        ModelError: It cannot be read.
    """
    if model.path.startswith(FAKE_PREFIX):
        return {}
    return _json(model.name, Path(model.path) / "scheduler/scheduler_config.json")


def _local_folder(name: str) -> Path | None:
    """The embedded folder of that name, one under SDBATCH_MODELS, or the path itself."""
    embedded = Path(str(resources.files("sdbatch"))) / "models" / name
    if name in KNOWN and embedded.is_dir():
        return embedded
    home = os.environ.get("SDBATCH_MODELS")
    candidates = [Path(home) / name] if home else []
    candidates.append(Path(name).expanduser())
    found = [path for path in candidates if (path / "model_index.json").is_file()]
    if found:
        return found[0].resolve()
    if candidates[-1].is_dir():
        raise ModelError(f"model {name}: the folder has no model_index.json, so no diffusers model")
    return None


def _folder_facts(name: str, folder: Path, revision: str) -> ModelFacts:
    index = _json(name, folder / "model_index.json")
    pipeline_class = str(index.get("_class_name"))
    if pipeline_class not in FAMILY_DEFAULTS:
        supported = ", ".join(FAMILY_DEFAULTS)
        raise ModelError(f"model {name}: {pipeline_class} is not supported, {supported} is")
    unet = _json(name, folder / "unet/config.json")
    vae = _json(name, folder / "vae/config.json")
    scheduler = _json(name, folder / "scheduler/scheduler_config.json")
    _check_parts(name, folder, unet, vae)
    scale = 2 ** (len(vae["block_out_channels"]) - 1)
    defaults, sources = _defaults(name, pipeline_class, unet, scheduler, index, scale)
    words = folder / "words.txt"
    return ModelFacts(
        name=name,
        path=str(folder),
        revision=revision,
        pipeline_class=pipeline_class,
        defaults=defaults,
        sources=sources,
        size_multiple_px=math.lcm(SIZE_STEP_PX, scale),
        num_train_timesteps=int(scheduler.get("num_train_timesteps", 1000)),
        size_bytes=sum(path.stat().st_size for path in weight_files(name, folder)),
        words=frozenset(words.read_text().split()) if words.is_file() else frozenset(),
    )


def _check_parts(name: str, folder: Path, unet: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Refuse what this family's rooms cannot be filled with."""
    for part in PARTS:
        if not (folder / part).is_dir():
            raise ModelError(f"model {name}: the folder has no {part}/")
    channels, latent = unet.get("in_channels"), vae.get("latent_channels")
    if channels != latent:
        raise ModelError(
            f"model {name}: its UNet takes {channels} channels and its VAE has {latent}: "
            "an inpainting or editing model, this version draws from text"
        )
    if unet.get("time_cond_proj_dim") is not None:
        raise ModelError(f"model {name}: its UNet embeds guidance, which is not supported")
    if unet.get("addition_embed_type") not in (None, "text"):
        raise ModelError(f"model {name}: its UNet wants more than text, which is not supported")


def _defaults(
    name: str,
    pipeline_class: str,
    unet: Mapping[str, Any],
    scheduler: Mapping[str, Any],
    index: Mapping[str, Any],
    scale: int,
) -> tuple[RowDefaults, dict[str, str]]:
    """Settings of rows that say nothing: known model, else configuration, else family."""
    family, usual = FAMILY_DEFAULTS[pipeline_class]
    known = KNOWN.get(name)
    best, source = (known, f"model {name}") if known else (usual, f"family {family}")
    cells = unet.get("sample_size") or 64
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
        scheduler_config="",
        num_images_per_prompt=1,
        **values,
    )
    sources |= {"num_inference_steps": source, "guidance_scale": source}
    rest = ("negative_prompt", "scheduler_config", "num_images_per_prompt")
    sources["prompt_syntax"] = "default"  # no model's matter
    return defaults, sources | dict.fromkeys(rest, f"family {family}")


def _fake_facts(name: str) -> ModelFacts:
    options = fake_options(name)
    defaults = RowDefaults("", 64, 64, 4, 3.0, "DDIMScheduler", "", 1)
    return ModelFacts(
        name=name,
        path=name if name.startswith(FAKE_PREFIX) else FAKE_PREFIX,
        revision=hashlib.sha256(f"fake {options.fail}".encode()).hexdigest(),
        pipeline_class="FakePipeline",
        defaults=defaults,
        sources=dict.fromkeys(RowDefaults.__slots__, "model fake"),
        size_multiple_px=8,
        num_train_timesteps=1000,
        size_bytes=0,
        words=frozenset(),
    )


def _json(name: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name}: {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"model {name}: {path} holds no JSON object")
    return content

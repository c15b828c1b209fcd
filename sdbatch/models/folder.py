"""A model folder: the trained parts as diffusers and transformers keep them.

While training goes on, parts are kept in float32; the folder that ships holds them in half
precision with the small corrections that a plain `from_pretrained` needs.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from sdbatch.models.noise import SCHEDULE
from sdbatch.models.prompts import Prompts
from sdbatch.models.tokens import world_words

TEXT, VAE, UNET = ("tokenizer", "text_encoder"), "vae", "unet"


def load_vae(model: Path) -> Any:
    """The VAE of a folder, in float32, at rest."""
    return AutoencoderKL.from_pretrained(model / VAE).float().eval()


def load_unet(model: Path) -> Any:
    """The UNet of a folder, in float32, at rest."""
    return UNet2DConditionModel.from_pretrained(model / UNET).float().eval()


def save_text(prompts: Prompts, model: Path) -> None:
    """Write tokenizer and text encoder as they are."""
    prompts.tokenizer.save_pretrained(model / TEXT[0])
    prompts.encoder.save_pretrained(model / TEXT[1])


def write_folder(out: Path, parts: Path) -> int:
    """Write the folder that ships from the parts in float32.

    Returns:
        Its size in bytes.
    """
    prompts = Prompts.load(parts)
    scheduler = DPMSolverMultistepScheduler(**SCHEDULE, steps_offset=1)
    pipeline = StableDiffusionPipeline(
        vae=load_vae(parts).half(),
        text_encoder=copy.deepcopy(prompts.encoder).half(),
        tokenizer=prompts.tokenizer,
        unet=load_unet(parts).half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(out, safe_serialization=True)
    for part in (VAE, UNET):
        _set(out / part / "config.json", _name_or_path=None)
    # `DDIMScheduler.from_config` would clip latents, which ruins them.
    _set(out / "scheduler/scheduler_config.json", clip_sample=False, set_alpha_to_one=False,
         skip_prk_steps=True)  # fmt: skip
    # Transformers loads in the type that the file names, diffusers in float32.
    _set(out / "text_encoder/config.json", dtype="float32")
    (out / "words.txt").write_text("\n".join(world_words()) + "\n")
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _set(path: Path, **values: Any) -> None:
    """Set values of a configuration; None takes one away."""
    held = json.loads(path.read_text()) | values
    held = {name: value for name, value in held.items() if name not in values or value is not None}
    path.write_text(json.dumps(held, indent=2) + "\n")

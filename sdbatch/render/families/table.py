"""Families by the pipeline class that a model's `model_index.json` names.

What a plan must know of a family, as plain data: no torch here. How its rooms are filled is
said in the module of that name beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sdbatch.render.families.known import KnownModel


@dataclass(frozen=True, slots=True)
class Family:
    """One way of filling the three rooms.

    Attributes:
        name: Module beside this file.
        usual: Settings of rows that say nothing, for models that are not known by name.
        denoiser: Folder of room 2's model.
        parts: Folders that a model of this family must have.
        size_step_px: Width and height must be multiples of it, whatever the VAE's scale.
        latent_factor: Channels that the denoiser takes, per channel of the latents.
        additions: What the denoiser may be told beside text, by its `addition_embed_type`.
        embeds_guidance: `guidance_scale` is a number that the model is told, if it takes one;
            two lanes are a matter of `true_cfg_scale`.
        untold: Such a model that takes none after all: it was distilled to few steps.
        note: What a person should know before a run; empty for nothing.
        flow: Its denoiser says a flow's velocity: other schedulers draw with it.
        weighted: Prompts may be in A1111's syntax, whose weights are made for CLIP's chunks.
        optional: Folders that a model must have if its index names them.
        sample_cells: Latent cells of its picture's side, where its configuration does not say.
        tokenizer: Folder of the tokenizer by which a prompt's length is told.
        text_tokens: Tokens of a text that the model reads, marks included.
        text_marks: Those among them that are no prompt's.
        lower_case: Its pipeline hands prompts on in lower case, stripped.
    """

    name: str
    usual: KnownModel
    denoiser: str = "unet"
    parts: tuple[str, ...] = ("tokenizer", "text_encoder", "unet", "vae", "scheduler")
    size_step_px: int = 8
    latent_factor: int = 1
    additions: tuple[str | None, ...] = (None, "text")
    embeds_guidance: bool = False
    untold: Family | None = None
    note: str = ""
    flow: bool = False
    weighted: bool = True
    optional: tuple[str, ...] = ()
    sample_cells: int = 64
    tokenizer: str = "tokenizer"
    text_tokens: int = 77
    text_marks: int = 2
    lower_case: bool = False

    def told(self, denoiser: Mapping[str, Any]) -> Family:
        """What a denoiser of this configuration makes of the family."""
        return self if self.untold is None or denoiser.get("guidance_embeds") else self.untold


ONE_ENCODER = ("tokenizer", "text_encoder", "transformer", "vae", "scheduler")
PIXART = Family(
    "pixart",
    KnownModel(20, 4.5),
    denoiser="transformer",
    parts=ONE_ENCODER,
    size_step_px=16,
    sample_cells=128,
    text_tokens=300,
    text_marks=1,
    weighted=False,
    lower_case=True,
)

TRUE_CFG = "a negative prompt counts where true_cfg_scale is above 1"
FLUX = Family(
    "flux",
    KnownModel(28, 3.5),
    denoiser="transformer",
    parts=(
        *("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"),
        *("transformer", "vae", "scheduler"),
    ),
    size_step_px=16,
    latent_factor=4,
    embeds_guidance=True,
    flow=True,
    weighted=False,
    sample_cells=128,
    tokenizer="tokenizer_2",
    text_tokens=512,
    text_marks=1,
    note=f"guidance_scale is a number that this model is told; {TRUE_CFG}",
)

FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": Family("sd", KnownModel(50, 7.5)),
    "StableDiffusionXLPipeline": Family(
        "sdxl",
        KnownModel(50, 5.0),
        parts=(
            *("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"),
            *("unet", "vae", "scheduler"),
        ),
        additions=("text_time",),
    ),
    "StableDiffusion3Pipeline": Family(
        "sd3",
        KnownModel(28, 7.0),
        denoiser="transformer",
        parts=(
            *("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"),
            *("transformer", "vae", "scheduler"),
        ),
        optional=("tokenizer_3", "text_encoder_3"),
        flow=True,
        weighted=False,
        size_step_px=16,
        tokenizer="tokenizer_3",
        text_tokens=256,
        text_marks=1,
    ),
    "FluxPipeline": replace(
        FLUX,
        untold=replace(
            FLUX,
            usual=KnownModel(4, 0.0),
            text_tokens=256,
            note=f"this model is not told guidance_scale, whatever its value; {TRUE_CFG}",
        ),
    ),
    "PixArtSigmaPipeline": PIXART,
    "PixArtAlphaPipeline": replace(PIXART, text_tokens=120),
    "SanaPipeline": Family(
        "sana",
        KnownModel(20, 4.5),
        denoiser="transformer",
        parts=ONE_ENCODER,
        size_step_px=32,
        sample_cells=32,
        text_tokens=300,
        flow=True,
        weighted=False,
        lower_case=True,
    ),
}

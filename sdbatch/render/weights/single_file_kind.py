"""What a checkpoint in one file is, told from its tensors' names and shapes alone.

The names are those of the programs that trained it (CompVis, Stability AI, ComfyUI); which
of them mean what is read in `diffusers.loaders.single_file_utils` and in the loaders of
A1111 and ComfyUI. What holds no whole model is refused with what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sdbatch.errors import ModelError
from sdbatch.render.weights.safetensors_header import Header

UNET = "model.diffusion_model."
VAES = ("first_stage_model.", "vae.")
TEXTS = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.")
CONV_IN = f"{UNET}input_blocks.0.0.weight"
CONV_SIDES = 4
SD_LATENT_CHANNELS = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of checkpoint.

    Attributes:
        name: Of its configurations, see `single_file_configs.py`.
        title: For people.
        unet_tensors: Number of tensors of its UNet; 0 for models without one.
        repo: Where its configurations are published, for those that do not come with us.
    """

    name: str
    title: str
    unet_tensors: int = 0
    repo: str = ""


SD15 = Kind("sd15", "Stable Diffusion 1.x", 686)
SD21 = Kind("sd21", "Stable Diffusion 2.x", 686)
SDXL = Kind("sdxl", "Stable Diffusion XL", 1680)
SDXL_REFINER = Kind("sdxl-refiner", "Stable Diffusion XL refiner", 1220)
_BY_CONTEXT = {768: SD15, 1024: SD21, 2048: SDXL, 1280: SDXL_REFINER}
"""By the width of the text that the UNet attends to."""
_STABLE = "stabilityai/stable-diffusion"
SD3 = Kind("sd3", "Stable Diffusion 3", repo=f"{_STABLE}-3-medium-diffusers")
SD35_MEDIUM = Kind("sd35-medium", "Stable Diffusion 3.5 medium", repo=f"{_STABLE}-3.5-medium")
SD35_LARGE = Kind("sd35-large", "Stable Diffusion 3.5 large", repo=f"{_STABLE}-3.5-large")
FLUX_DEV = Kind("flux-dev", "FLUX.1 dev", repo="black-forest-labs/FLUX.1-dev")
FLUX_SCHNELL = Kind("flux-schnell", "FLUX.1 schnell", repo="black-forest-labs/FLUX.1-schnell")

_JOINT = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
_JOINT_LAST_LARGE = "joint_blocks.37.x_block.mlp.fc1.weight"
_DOUBLE = "double_blocks.0.img_attn.norm.key_norm.scale"
_CHROMA = "distilled_guidance_layer.in_proj.bias"
_INPUTS = {9: "an inpainting", 8: "an editing", 7: "an upscaling", 5: "a depth"}

Names = Collection[str]
_NOT_A_MODEL: tuple[tuple[str, Callable[[Names], bool]], ...] = (
    ("a LoRA", lambda names: _any(names, ("lora_unet_", "lora_te", "lora_transformer_"))),
    ("a LoRA", lambda names: _any_with(names, (".lora_down.", ".lora_A.", ".hada_w1", ".lokr_w"))),
    ("a LoRA", lambda names: _any_with(names, (".lora.down.", "_lora.down.", ".oft_"))),
    ("a ControlNet", lambda names: _any(names, ("control_model.", "controlnet_"))),
    ("a ControlNet", lambda names: _any(names, ("input_hint_block.", "lllite_"))),
    ("an IP-Adapter", lambda names: _any(names, ("ip_adapter.", "image_proj."))),
    ("a textual inversion", lambda names: {*names} <= {"emb_params", "clip_l", "clip_g"}),
    ("an upscaler of pictures", lambda names: _any(names, ("conv_first.", "model.0.weight"))),
)  # fmt: skip
_ONE_PART = (
    ("a UNet of a diffusers folder", ("down_blocks.", "mid_block.")),
    ("a text encoder", ("text_model.", "transformer.resblocks.", "encoder.block.")),
    ("a VAE", ("encoder.", "decoder.")),
    ("a UNet", ("input_blocks.", "middle_block.")),
)  # fmt: skip


def kind_of(name: str, header: Header) -> Kind:
    """What a checkpoint is.

    Raises:
        ModelError: It is no whole model, or of a kind that this version cannot draw with.
    """
    names = header.tensors
    demand_whole(name, header)
    if f"{UNET}{_JOINT}" in names:
        return _stable_diffusion_3(header)
    if f"{UNET}{_DOUBLE}" in names and f"{UNET}{_CHROMA}" not in names:
        return FLUX_DEV if f"{UNET}guidance_in.in_layer.bias" in names else FLUX_SCHNELL
    widths = {
        tensor.shape[-1]
        for key, tensor in names.items()
        if key.startswith(UNET) and key.endswith(".attn2.to_k.weight") and tensor.shape
    }
    kind = _BY_CONTEXT.get(widths.pop()) if len(widths) == 1 else None
    if kind is None or len(header.shape(CONV_IN)) != CONV_SIDES:
        raise ModelError(
            f"model {name}: {header.path} is no checkpoint of a family that this version knows "
            "in one file: give its diffusers folder, or its id on the Hub"
        )
    _demand_drawable(name, header, kind)
    return kind


def demand_whole(name: str, header: Header) -> None:
    """Refuse what is not a denoiser, a text encoder and a VAE together.

    Raises:
        ModelError: With what it is, and what could be done.
    """
    what = _less_than_a_model(header.tensors)
    if what:
        raise ModelError(
            f"model {name}: {header.path} is {what}, not a whole model: give a checkpoint that "
            "holds UNet, text encoder and VAE, or a diffusers folder"
        )
    parts = {"a text encoder": TEXTS, "a VAE": VAES}
    lacking = [part for part, marks in parts.items() if not _any(header.tensors, marks)]
    if lacking:
        raise ModelError(
            f"model {name}: {header.path} has no {' and no '.join(p[2:] for p in lacking)}: "
            "give a checkpoint with everything in it, or a diffusers folder"
        )


def _less_than_a_model(names: Names) -> str:
    """What a file is that holds no whole model; empty for one that may."""
    for what, holds in _NOT_A_MODEL:
        if holds(names):
            return what
    if _any(names, (UNET,)):
        others = [key for key in names if not key.startswith((UNET, "model_ema."))]
        return "" if _any(others, (*TEXTS, *VAES)) else "a denoiser alone"
    if _JOINT in names or _DOUBLE in names:
        return "a denoiser alone"
    for what, marks in _ONE_PART:
        if _any(names, marks):
            return f"{what} alone"
    if _any(names, VAES):
        return "a VAE alone"
    return "a text encoder alone" if _any(names, TEXTS) else "none of the checkpoints known here"


def _stable_diffusion_3(header: Header) -> Kind:
    """Which SD3, as diffusers tells them apart: by depth, then by the grid of positions."""
    if f"{UNET}{_JOINT_LAST_LARGE}" in header.tensors:
        return SD35_LARGE
    positions = header.shape(f"{UNET}pos_embed")
    return SD35_MEDIUM if len(positions) > 1 and positions[1] == 384 * 384 else SD3


def _demand_drawable(name: str, header: Header, kind: Kind) -> None:
    """Refuse variants of a known kind that text alone does not draw with."""
    channels = header.shape(CONV_IN)[1]
    if channels != SD_LATENT_CHANNELS:
        what = _INPUTS.get(channels, "another")
        raise ModelError(
            f"model {name}: {header.path} is {what} variant of {kind.title}, its UNet takes "
            f"{channels} channels: this version draws from text, give one that takes 4"
        )
    if "edm_mean" in header.tensors or "edm_vpred.sigma_max" in header.tensors:
        raise ModelError(
            f"model {name}: {header.path} was trained for EDM noise levels: give its diffusers "
            "folder, whose scheduler says how they lie"
        )
    tensors = sum(key.startswith(UNET) for key in header.tensors)
    if tensors != kind.unet_tensors:
        raise ModelError(
            f"model {name}: {header.path} looks like {kind.title}, but its UNet has {tensors:,} "
            f"tensors, not {kind.unet_tensors:,}: it is damaged or a variant, give its diffusers "
            "folder"
        )


def _any(names: Names, prefixes: tuple[str, ...]) -> bool:
    return any(key.startswith(prefixes) for key in names)


def _any_with(names: Names, parts: tuple[str, ...]) -> bool:
    return any(part in key for key in names for part in parts)

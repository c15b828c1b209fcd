"""What a model family gives the house: models for the three rooms, and how its steps lie.

A family's module has one door, `load(folder, device, dtype) -> Rooms`. Nothing else asks
which family a model is of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sdbatch.render.denoiser import NoiseModel
from sdbatch.render.image_decoder import LatentDecoder
from sdbatch.render.memory.meta_parts import empty_part
from sdbatch.render.schedulers import Timing
from sdbatch.render.single_file_parts import part_of_file
from sdbatch.render.text_encoder import TextModel
from sdbatch.render.weights.model_revision import variant_of
from sdbatch.render.weights.single_file import weights_of

Size = tuple[int, int]
TimingOf = Callable[[Size, int], Timing]


def plain_timing(size: Size, steps: int) -> Timing:  # noqa: ARG001  # a `TimingOf`
    """Steps lie as the scheduler's configuration says, whatever the picture's size."""
    return Timing()


@dataclass(frozen=True, slots=True)
class Rooms:
    """A loaded model of any family.

    Attributes:
        text_model, noise_model, latent_decoder: What the rooms call.
        components: The parts that diffusers' own pipeline is made of, by its parameter names,
            without the scheduler: modules and tokenizers.
        timing: (picture size (width, height) in pixels, steps) to what `set_timesteps` is told.
        negative_text: What a negative prompt is handed to room 1 as: families that read it in
            another way than a prompt mark it.
        flow: The denoiser says a flow's velocity, not a noise.
    """

    text_model: TextModel
    noise_model: NoiseModel
    latent_decoder: LatentDecoder
    components: Mapping[str, Any]
    timing: TimingOf = plain_timing
    negative_text: Callable[[str], str] = str
    flow: bool = False

    @property
    def denoiser(self) -> Any:
        """Diffusers' model of room 2."""
        return self.components.get("transformer") or self.components["unet"]

    @property
    def vae(self) -> Any:
        """Diffusers' autoencoder."""
        return self.components["vae"]


def load_part(kind: Any, folder: Any, part: str, device: torch.device, dtype: torch.dtype) -> Any:
    """One model of a diffusers folder on the device, without gradients; on `meta` without weights.

    Args:
        kind: Its class, of diffusers or transformers.
        folder: The model's folder.
        part: The part's folder in it.
    """
    if device.type == "meta":
        return empty_part(kind, Path(folder), part, dtype)
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "dtype": dtype}
    file = weights_of(Path(folder))
    if file is not None:  # all parts lie in one checkpoint
        model = part_of_file(kind, Path(folder), part, file, dtype)
    else:
        model = kind.from_pretrained(
            str(folder / part), **options, variant=variant_of(folder / part)
        )
    return torch.nn.Module.to(model, device).requires_grad_(False).eval()

"""Another autoencoder in the place of a model's own, loaded from a folder or a single file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import VaeSpec
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.vae.vae_choice import vae_place


def with_vae(rooms: Rooms, spec: VaeSpec | None, folder: Path) -> Rooms:
    """The rooms with another autoencoder in the third, where one is planned.

    Args:
        rooms: As the family filled them.
        spec: The autoencoder; None leaves the model's own.
        folder: The model's, for the configuration of a single file.

    Raises:
        ModelError: It is not here, or cannot be loaded into this model.
    """
    if spec is None:
        return rooms
    decoder: Any = rooms.latent_decoder
    own, place = rooms.vae, vae_place(spec)
    options: dict[str, Any] = {"local_files_only": True, "dtype": own.dtype}
    if place.is_file():
        options = {"config": str(folder / "vae"), "local_files_only": True}
        vae = diffusers.AutoencoderKL.from_single_file(str(place), torch_dtype=own.dtype, **options)
    else:
        vae = diffusers.AutoencoderKL.from_pretrained(str(place), use_safetensors=True, **options)
    lacking = [key for key, tensor in vae.state_dict().items() if tensor.is_meta]
    if lacking:
        raise ModelError(f"vae {spec.name}: lacks {len(lacking):,} tensors, such as {lacking[0]}")
    vae = torch.nn.Module.to(vae, own.device).requires_grad_(False).eval()
    return replace(
        rooms,
        latent_decoder=replace(decoder, vae=vae),
        components={**rooms.components, "vae": vae},
    )

"""Flux: how its parts fill the three rooms.

T5 gives the tokens, CLIP a pooled vector. Latents lie in lanes as `[C, h, w]` like anyone's;
2x2 cells become a token just for the call. `dev` is told `guidance_scale` as a number,
`schnell` is not told it at all; both take classifier-free guidance as `true_cfg_scale`. The
calls are those of diffusers' FluxPipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from torch import Tensor

from sdbatch.records import RenderRow
from sdbatch.render.families.pooled import append_pooled, clip_ids, pooled_rows, split_pooled
from sdbatch.render.families.rooms import Rooms, Size, TimingOf, load_part
from sdbatch.render.families.sd import SdVae
from sdbatch.render.families.t5 import T5, load_t5
from sdbatch.render.families.transformer import Transformer
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.schedulers import Timing

T5_TOKENS, FEW_TOKENS = 512, 256
"""Length of every text: of models that are told their guidance, and of `schnell`."""

PATCH = 2
"""Cells of a token, in each direction."""


@dataclass(frozen=True, slots=True)
class FluxTextModel:
    """Room 1's model."""

    tokenizer: Any
    clip: Any
    t5: T5

    @property
    def weighted(self) -> bool:
        """Prompts are read as they are."""
        return False

    @property
    def zero_negative(self) -> bool:
        """An absent negative prompt is the empty text."""
        return False

    def shape(self, num_chunks: int = 1) -> tuple[int, int]:  # noqa: ARG002  # never more than one
        """(rows, width): T5's tokens, and CLIP's pooled vector."""
        width = self.t5.width
        return (self.t5.length + pooled_rows(self.clip.config.hidden_size, width), width)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Ids `[n, tokens]` of both encoders in a row, and which prompts T5 does not see whole."""
        ids, _ = clip_ids(self.tokenizer, prompts, self.tokenizer.model_max_length)
        tokens, cut = self.t5.tokenize(prompts)
        return torch.cat([tokens.flatten(1), ids], 1), cut

    def embed(self, tokens: Tensor) -> Tensor:
        """What the model is told, `[n, rows, width]`, of tokens as `tokenize` gives them."""
        long = 2 * self.t5.length
        embeds = self.t5.embed(tokens[:, :long].view(len(tokens), 2, -1))
        pooled = self.clip(tokens[:, long:].to(self.clip.device)).pooler_output
        return append_pooled(embeds, pooled)


class FluxTransformer(Transformer):
    """Room 2's model: one call of the transformer for a whole pass."""

    __slots__ = ()

    @property
    def channels(self) -> int:
        """Channels of the latents before cells are packed."""
        return int(self.transformer.config.in_channels) // PATCH**2

    @property
    def num_numbers(self) -> int:
        """One for `dev`, its guidance; none for `schnell`."""
        return int(self.transformer.config.guidance_embeds)

    def row_numbers(self, row: RenderRow) -> tuple[float, ...]:
        """The row's guidance, where the model is told it."""
        return (row.guidance_scale,)[: self.num_numbers]

    def predict(self, inputs: LaneInputs) -> Tensor:
        """The flow's velocity `[L, C, h, w]` in float32."""
        size = self.transformer.config.pooled_projection_dim
        embeds, pooled = split_pooled(inputs.embeds.to(self.dtype), size)
        rows, columns = inputs.latents.shape[2] // PATCH, inputs.latents.shape[3] // PATCH
        output = self.call(
            (*inputs.latents.shape, embeds.shape[1]),
            hidden_states=pack(inputs.latents).to(self.dtype),
            timestep=inputs.timesteps / 1000,
            guidance=inputs.numbers[:, 0] if self.num_numbers else None,
            pooled_projections=pooled,
            encoder_hidden_states=embeds,
            txt_ids=embeds.new_zeros(embeds.shape[1], 3),
            img_ids=image_ids(rows, columns, self.device).to(self.dtype),
        )
        return unpack(output, rows, columns)


def pack(latents: Tensor) -> Tensor:
    """Latents `[n, C, h, w]` as tokens `[n, h/2 * w/2, 4 C]`."""
    count, channels, height, width = latents.shape
    cells = latents.view(count, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * PATCH**2)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `pack` for so many tokens in a column and in a row."""
    cells = tokens.view(len(tokens), rows, columns, -1, PATCH, PATCH)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, PATCH * rows, PATCH * columns)


def image_ids(rows: int, columns: int, device: torch.device) -> Tensor:
    """Where each token lies, `[rows * columns, 3]`: zero, row, column."""
    sides = (torch.arange(side, device=device) for side in (rows, columns))
    places = torch.cartesian_prod(*sides)
    return torch.nn.functional.pad(places, (1, 0))


def flux_timing(pixels_per_token: int) -> TimingOf:
    """Steps as Flux's pipeline lays them: evenly from 1, then shifted by the picture's size."""

    def timing(size: Size, steps: int) -> Timing:
        tokens = (size[0] // pixels_per_token) * (size[1] // pixels_per_token)
        return Timing(sigmas=tuple(np.linspace(1.0, 1 / steps, steps).tolist()), tokens=tokens)

    return timing


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Rooms:
    """Fill the rooms from a diffusers folder."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(
        str(folder / "tokenizer"), local_files_only=True
    )
    clip = load_part(transformers.CLIPTextModel, folder, "text_encoder", device, dtype)
    transformer = load_part(diffusers.FluxTransformer2DModel, folder, "transformer", device, dtype)
    length = T5_TOKENS if transformer.config.guidance_embeds else FEW_TOKENS
    t5 = load_t5(folder, "tokenizer_2", "text_encoder_2", length, device, dtype)
    vae = load_part(diffusers.AutoencoderKL, folder, "vae", device, dtype)
    return join(tokenizer, clip, t5, transformer, vae)


def join(tokenizer: Any, clip: Any, t5: T5, transformer: Any, vae: Any) -> Rooms:
    """Fill the rooms with parts that lie on their device, wherever they came from."""
    parts = {"tokenizer": tokenizer, "text_encoder": clip, "transformer": transformer, "vae": vae}
    parts |= {"tokenizer_2": t5.tokenizer, "text_encoder_2": t5.encoder}
    decoder = SdVae(vae)
    return Rooms(
        FluxTextModel(tokenizer, clip, t5),
        FluxTransformer(transformer),
        decoder,
        parts,
        flux_timing(PATCH * decoder.scale),
        flow=True,
    )

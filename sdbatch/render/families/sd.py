"""Stable Diffusion 1.x and 2.x: how its parts fill the three rooms.

The rooms know shapes, chunks and lanes; what a tokenizer, UNet or VAE of this family
wants to be called with is known here and nowhere else. The calls are those of diffusers'
own StableDiffusionPipeline, so a row's latents are the ones that pipeline computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import diffusers
import torch
import transformers
from torch import Tensor

from sdbatch.records import RenderRow
from sdbatch.render.families.rooms import Rooms, load_part
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.prompt_chunks import Frame
from sdbatch.render.speed import Passes


@dataclass(frozen=True, slots=True)
class SdTextModel:
    """Room 1's model: CLIP tokenizer and text encoder, prompts of one fixed length."""

    tokenizer: Any
    text_encoder: Any

    @property
    def embeds_shape(self) -> tuple[int, int]:
        """(length, width) of every prompt's embeddings."""
        config = self.text_encoder.config
        length = min(self.tokenizer.model_max_length, config.max_position_embeddings)
        return (length, config.hidden_size)

    @property
    def weighted(self) -> bool:
        """Prompts may be weighted, as in A1111."""
        return True

    @property
    def zero_negative(self) -> bool:
        """An absent negative prompt is the empty text."""
        return False

    def shape(self, num_chunks: int = 1) -> tuple[int, int]:
        """(rows, width) of a prompt of so many chunks."""
        length, width = self.embeds_shape
        return (num_chunks * length, width)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Tokens `[n, 2, length]` (ids and mask), and which prompts are longer than that."""
        length, _ = self.embeds_shape
        whole = self.tokenizer(list(prompts), truncation=False, verbose=False).input_ids
        padded = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        tokens = torch.stack([padded.input_ids, padded.attention_mask], 1)
        return tokens, [len(ids) > length for ids in whole]

    @property
    def frame(self) -> Frame:
        """What stands around the tokens of a chunk."""
        tokenizer = self.tokenizer
        marks = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        (comma,) = self.words([","])
        return Frame(*marks, comma[0] if len(comma) == 1 else -1, self.embeds_shape[0])

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, without marks, however many there are."""
        if not texts:
            return []
        found = self.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False
        )
        return [list(ids) for ids in found.input_ids]

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings `[n, length, width]` of tokens `[n, 2, length]`."""
        ids, mask = tokens.to(self.text_encoder.device).unbind(1)
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        embeds: Tensor = self.text_encoder(ids, attention_mask=mask if masked else None)[0]
        return embeds


class Told(Protocol):
    """What a UNet is told beside latents and times."""

    @property
    def num_numbers(self) -> int:
        """N: how many numbers of a row."""
        ...

    def row_numbers(self, row: RenderRow) -> tuple[float, ...]:
        """These N numbers."""
        ...

    def arguments(self, embeds: Tensor, numbers: Tensor) -> dict[str, Any]:
        """Arguments of its call, from what room 1 packed `[L, rows, width]` and `[L, N]`."""
        ...


@dataclass(frozen=True, slots=True)
class TextOnly:
    """The text is all that it is told."""

    @property
    def num_numbers(self) -> int:
        """None."""
        return 0

    def row_numbers(self, row: RenderRow) -> tuple[float, ...]:  # noqa: ARG002  # a `Told`
        """None."""
        return ()

    def arguments(self, embeds: Tensor, numbers: Tensor) -> dict[str, Any]:  # noqa: ARG002
        """Embeddings as they are."""
        return {"encoder_hidden_states": embeds}


@dataclass(frozen=True, slots=True)
class SdUnet:
    """Room 2's model: one call of the UNet for a whole pass.

    Attributes:
        passes: What every call is surrounded with.
        told: What it is told beside latents and times.
        dtype: Number type it computes in; diffusers looks through all weights to find it.
    """

    unet: Any
    passes: Passes = field(default_factory=Passes)
    told: Told = field(default_factory=TextOnly)
    dtype: torch.dtype = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.unet.dtype)

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.unet.config.in_channels)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.unet.device
        return device

    @property
    def num_numbers(self) -> int:
        """N: how many numbers of a row it is told."""
        return self.told.num_numbers

    def row_numbers(self, row: RenderRow) -> tuple[float, ...]:
        """These N numbers."""
        return self.told.row_numbers(row)

    def predict(self, inputs: LaneInputs) -> Tensor:
        """Model output `[L, C, h, w]` in float32."""
        return self.call(self.unet, inputs)

    def call(self, unet: Any, inputs: LaneInputs) -> Tensor:
        """As `predict`, with a view of the UNet in its place."""
        told = inputs.embeds.to(self.dtype), inputs.numbers.to(self.dtype)
        with self.passes.around((*inputs.latents.shape, inputs.embeds.shape[1])):
            output: Tensor = unet(
                inputs.latents.to(self.dtype),
                inputs.timesteps,
                **self.told.arguments(*told),
                return_dict=False,
            )[0]
        return output.float()


@dataclass(frozen=True, slots=True)
class SdVae:
    """Room 3's model: the VAE's decoder."""

    vae: Any

    @property
    def scale(self) -> int:
        """Pixels per latent cell, in each direction."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[n, 3, H, W]` around [-1, 1] in float32, from latents `[n, C, h, w]`."""
        scaled = latents / self.vae.config.scaling_factor
        if self.vae.config.shift_factor:
            scaled = scaled + self.vae.config.shift_factor
        pictures: Tensor = self.vae.decode(scaled.to(self.vae.dtype), return_dict=False)[0]
        return pictures.float()


PARTS: Mapping[str, Any] = {
    "text_encoder": transformers.CLIPTextModel,
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
}
"""Models by their folder."""


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Rooms:
    """Fill the rooms from a diffusers folder."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(
        str(folder / "tokenizer"), local_files_only=True
    )
    made = {part: load_part(kind, folder, part, device, dtype) for part, kind in PARTS.items()}
    return join(tokenizer, **made)


def join(tokenizer: Any, text_encoder: Any, unet: Any, vae: Any) -> Rooms:
    """Fill the rooms with parts that lie on their device, wherever they came from."""
    components = {"tokenizer": tokenizer, "text_encoder": text_encoder, "unet": unet, "vae": vae}
    text = SdTextModel(tokenizer, text_encoder)
    return Rooms(text, SdUnet(unet), SdVae(vae), components)

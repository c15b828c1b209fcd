"""Stable Diffusion 1.x and 2.x: how its parts fill the three rooms.

The rooms know shapes, chunks and lanes; what a tokenizer, UNet or VAE of this family
wants to be called with is known here and nowhere else. The calls are those of diffusers'
own StableDiffusionPipeline, so a row's latents are the ones that pipeline computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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


@dataclass(frozen=True, slots=True)
class SdUnet:
    """Room 2's model: one call of the UNet for a whole pass.

    Attributes:
        passes: What every call is surrounded with.
        dtype: Number type it computes in; diffusers looks through all weights to find it.
    """

    unet: Any
    passes: Passes = field(default_factory=Passes)
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

    def predict(self, latents: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        """Model output `[L, C, h, w]` in float32.

        Args:
            latents: Scaled input `[L, C, h, w]`, float32.
            timesteps: `[L]`, float32.
            embeds: Text embeddings `[L, length, width]`.
        """
        return self.call(self.unet, latents, timesteps, embeds)

    def call(self, unet: Any, latents: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        """As `predict`, with a view of the UNet in its place."""
        with self.passes.around((*latents.shape, embeds.shape[1])):
            output: Tensor = unet(
                latents.to(self.dtype),
                timesteps,
                encoder_hidden_states=embeds.to(self.dtype),
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
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        pictures: Tensor = self.vae.decode(scaled, return_dict=False)[0]
        return pictures.float()

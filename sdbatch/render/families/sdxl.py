"""Stable Diffusion XL: how its parts fill the three rooms.

Two text encoders read a prompt. What the last but one layer of each makes of it lies side by
side; the second one's pooled vector is packed behind it as a further row, to be unpacked where
the UNet is called, which is told the picture's sizes as well (micro-conditioning; Podell et al.,
SDXL, 2023). The calls are those of diffusers' own StableDiffusionXLPipeline; prompts of many
chunks take the pooled vector of their first, as A1111 does (its `modules/sd_hijack_clip.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from sdbatch.manifest.micro_conditioning import micro_numbers
from sdbatch.records import RenderRow
from sdbatch.render.families.rooms import Rooms, load_part
from sdbatch.render.families.sd import SdTextModel, SdUnet, SdVae
from sdbatch.render.prompt_chunks import Frame


@dataclass(frozen=True, slots=True)
class SdxlTextModel:
    """Room 1's model: two CLIP tokenizers and text encoders, prompts of one fixed length.

    Attributes:
        first, second: Each encoder with its tokenizer; the second one has a projection.
        zero_negative: An absent negative prompt is all zeros, the pooled vector too.
        weighted: Both tokenizers know the same words, so chunks can be cut for both at once.
    """

    first: SdTextModel
    second: SdTextModel
    zero_negative: bool
    weighted: bool

    @property
    def widths(self) -> tuple[int, int]:
        """Width of each encoder's embeddings."""
        return (self.first.embeds_shape[1], self.second.embeds_shape[1])

    @property
    def pooled_width(self) -> int:
        """Width of the pooled vector."""
        return int(self.second.text_encoder.config.projection_dim)

    @property
    def pooled_rows(self) -> int:
        """Rows that the pooled vector takes behind the embeddings."""
        return -(-self.pooled_width // sum(self.widths))

    def shape(self, num_chunks: int = 1) -> tuple[int, int]:
        """(rows, width) of a prompt of so many chunks."""
        length, _ = self.first.embeds_shape
        return (num_chunks * length + self.pooled_rows, sum(self.widths))

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Tokens `[n, 3, length]`: ids, mask, the other tokenizer's ids; which were cut."""
        tokens, cut = self.first.tokenize(prompts)
        others, also_cut = self.second.tokenize(prompts)
        either = [one or other for one, other in zip(cut, also_cut, strict=True)]
        return torch.cat([tokens, others[:, :1]], 1), either

    @property
    def frame(self) -> Frame:
        """What stands around the tokens of a chunk."""
        return replace(self.first.frame, widths=self.widths, pooled_rows=self.pooled_rows)

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, without marks, however many there are."""
        return self.first.words(texts)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings and pooled vector `[n, length + pooled_rows, width]`.

        Args:
            tokens: As `tokenize` gives them, or without the second tokenizer's ids: they are
                the first one's then, filled up in its own way.
        """
        ids, mask, *others = tokens.to(self.first.text_encoder.device).unbind(1)
        if others:
            other_ids = others[0]
        else:
            fill = torch.full_like(ids, self.second.tokenizer.pad_token_id)
            other_ids = ids.where(mask.bool(), fill)
        hidden = self.first.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
        output = self.second.text_encoder(other_ids, output_hidden_states=True)
        embeds = torch.cat([hidden, output.hidden_states[-2]], -1)
        return torch.cat([embeds, self._as_rows(output.text_embeds).to(embeds.dtype)], 1)

    def _as_rows(self, pooled: Tensor) -> Tensor:
        """Vectors `[n, pooled_width]` filled up to rows of the embeddings' width."""
        width = sum(self.widths)
        spare = self.pooled_rows * width - self.pooled_width
        return torch.nn.functional.pad(pooled, (0, spare)).view(-1, self.pooled_rows, width)


@dataclass(frozen=True, slots=True)
class SizesAndPooled:
    """What the UNet is told: embeddings, the pooled vector, and the picture's sizes.

    Attributes:
        pooled_rows, pooled_width: As in `SdxlTextModel`.
    """

    pooled_rows: int
    pooled_width: int

    @property
    def num_numbers(self) -> int:
        """Original size, cropped corner, target size."""
        return 6

    def row_numbers(self, row: RenderRow) -> tuple[float, ...]:
        """What it says of them; else both sizes are its own and nothing is cropped."""
        return micro_numbers(row.micro_conditioning, row.height_px, row.width_px)

    def arguments(self, embeds: Tensor, numbers: Tensor) -> dict[str, Any]:
        """Arguments of the UNet's call, from `[L, rows, width]` and `[L, 6]`."""
        texts, pooled = embeds[:, : -self.pooled_rows], embeds[:, -self.pooled_rows :]
        vector = pooled.flatten(1)[:, : self.pooled_width].contiguous()
        added = {"text_embeds": vector, "time_ids": numbers}
        return {"encoder_hidden_states": texts.contiguous(), "added_cond_kwargs": added}


@dataclass(frozen=True, slots=True)
class SdxlVae(SdVae):
    """Room 3's model: the VAE's decoder; some models scale each channel on its own."""

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[n, 3, H, W]` around [-1, 1] in float32, from latents `[n, C, h, w]`."""
        config = self.vae.config
        scaled = latents / config.scaling_factor
        mean, std = (getattr(config, f"latents_{name}", None) for name in ("mean", "std"))
        if mean is not None and std is not None:
            mean, std = (scaled.new_tensor(each).view(1, -1, 1, 1) for each in (mean, std))
            scaled = latents * std / config.scaling_factor + mean
        pictures: Tensor = self.vae.decode(scaled.to(self.vae.dtype), return_dict=False)[0]
        return pictures.float()


PARTS: Mapping[str, Any] = {
    "text_encoder": transformers.CLIPTextModel,
    "text_encoder_2": transformers.CLIPTextModelWithProjection,
    "unet": diffusers.UNet2DConditionModel,
    "vae": diffusers.AutoencoderKL,
}
"""Models by their folder."""


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Rooms:
    """Fill the rooms from a diffusers folder."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    parts: dict[str, Any] = {
        name: transformers.CLIPTokenizer.from_pretrained(str(folder / name), local_files_only=True)
        for name in ("tokenizer", "tokenizer_2")
    }
    for part, kind in PARTS.items():
        parts[part] = load_part(kind, folder, part, device, dtype)
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    return join(**parts, force_zeros_for_empty_prompt=zeros)


def join(
    tokenizer: Any,
    tokenizer_2: Any,
    text_encoder: Any,
    text_encoder_2: Any,
    unet: Any,
    vae: Any,
    *,
    force_zeros_for_empty_prompt: bool = True,
) -> Rooms:
    """Fill the rooms with parts that lie on their device, wherever they came from.

    Args:
        force_zeros_for_empty_prompt: As in `model_index.json`.
    """
    components = {
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer_2,
        "text_encoder": text_encoder,
        "text_encoder_2": text_encoder_2,
        "unet": unet,
        "vae": vae,
        "force_zeros_for_empty_prompt": force_zeros_for_empty_prompt,
        "add_watermarker": False,
    }
    first, second = SdTextModel(tokenizer, text_encoder), SdTextModel(tokenizer_2, text_encoder_2)
    alike = tokenizer.get_vocab() == tokenizer_2.get_vocab()
    text = SdxlTextModel(first, second, force_zeros_for_empty_prompt, alike)
    told = SizesAndPooled(text.pooled_rows, text.pooled_width)
    return Rooms(text, SdUnet(unet, told=told), SdxlVae(vae), components)

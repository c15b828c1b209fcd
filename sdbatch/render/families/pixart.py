"""PixArt-Alpha and PixArt-Sigma: how their parts fill the three rooms.

The calls are those of diffusers' own pipelines with two of their switches off.
`use_resolution_binning` would draw the nearest of a list of sizes, then scale and crop the
picture to the one that was asked for: here the size of a row is the size it is drawn at.
`clean_caption` takes out links, marks and symbols where two further libraries happen to be
installed: here a prompt reads the same on every machine, in lower case and stripped, as
those pipelines read it without. Alpha's one-step variant, whose pipeline does not take the
scheduler's step, is not among them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from sdbatch.records import RenderRow
from sdbatch.render.families.masked import MaskedTransformer, pack
from sdbatch.render.families.rooms import Rooms, load_part
from sdbatch.render.families.sd import SdVae
from sdbatch.render.families.t5 import T5, load_t5
from sdbatch.render.lane_inputs import LaneInputs

LENGTHS = {"PixArtSigmaPipeline": 300, "PixArtAlphaPipeline": 120}
"""Tokens of every text, by pipeline class: what each model was trained with."""


@dataclass(frozen=True, slots=True)
class PixArtTextModel:
    """Room 1's model: T5, told which tokens are padding, and the mask for the transformer."""

    t5: T5

    @property
    def weighted(self) -> bool:
        """Prompts are plain: A1111's weights are made for CLIP's chunks."""
        return False

    @property
    def zero_negative(self) -> bool:
        """An absent negative prompt is the empty text."""
        return False

    def shape(self, num_chunks: int = 1) -> tuple[int, int]:
        """(rows, width) of a prompt of so many chunks."""
        return (num_chunks * self.t5.length, self.t5.width + 1)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Tokens `[n, 2, length]` (ids and mask), and which prompts are longer than that."""
        return self.t5.tokenize([prompt.lower().strip() for prompt in prompts])

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings with the mask as last column, `[n, length, width + 1]`."""
        embeds = self.t5.embed(tokens)
        return pack(embeds, tokens[:, 1].to(embeds.device))


@dataclass(frozen=True, slots=True)
class PixArtTransformer(MaskedTransformer):
    """Room 2's model; Alpha's large one is told the picture's size as well."""

    @property
    def num_numbers(self) -> int:
        """Height, width and their ratio, where the transformer was trained with them."""
        return 3 if self.transformer.use_additional_conditions else 0

    def row_numbers(self, row: RenderRow) -> tuple[float, ...]:
        """Height and width in pixels, and height / width."""
        numbers = (row.height_px, row.width_px, row.height_px / row.width_px)
        return numbers[: self.num_numbers]

    def told(self, inputs: LaneInputs) -> Mapping[str, Any]:
        """Timesteps, and the sizes in the transformer's number type."""
        conditions: dict[str, Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.num_numbers:
            numbers = inputs.numbers.to(self.dtype)
            conditions = {"resolution": numbers[:, :2], "aspect_ratio": numbers[:, 2:]}
        return {"timestep": inputs.timesteps, "added_cond_kwargs": conditions}


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Rooms:
    """Fill the rooms from a diffusers folder."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    length = LENGTHS[index["_class_name"]]
    text = load_t5(folder, "tokenizer", "text_encoder", length, device, dtype, masked=True)
    kind = diffusers.PixArtTransformer2DModel
    transformer = load_part(kind, folder, "transformer", device, dtype)
    vae = load_part(diffusers.AutoencoderKL, folder, "vae", device, dtype)
    return join(text, transformer, vae)


def join(text: T5, transformer: Any, vae: Any) -> Rooms:
    """Fill the rooms with parts that lie on their device, wherever they came from."""
    components = {
        "tokenizer": text.tokenizer,
        "text_encoder": text.encoder,
        "transformer": transformer,
        "vae": vae,
    }
    noise_model = PixArtTransformer(transformer)
    return Rooms(PixArtTextModel(text), noise_model, SdVae(vae), components)

"""Sana: how its parts fill the three rooms.

A language model, Gemma 2, reads the prompt behind an instruction that asks it to enhance one
(the default of diffusers' own SanaPipeline, which takes 300 tokens of what comes out); a
negative prompt it reads alone. The picture is decoded by a deep-compression autoencoder, 32
pixels per latent cell. The calls are those of that pipeline without `use_resolution_binning`:
the size of a row is the size it is drawn at. Like it, prompts are read in lower case, stripped.

Gemma overflows in float16, and the autoencoder may: where that is asked for, it is the
transformer's, and both of them compute in bfloat16, as the model's makers advise.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from sdbatch.render.families.masked import MaskedTransformer, pack
from sdbatch.render.families.rooms import Rooms, load_part
from sdbatch.render.lane_inputs import LaneInputs

LENGTH = 300
"""Tokens of every text that the transformer is told."""

NEGATIVE = "\x00negative\x00"
"""Stands before a negative prompt: without it, one equal to a prompt would be that prompt."""


def negative_text(prompt: str) -> str:
    """What a negative prompt is handed to room 1 as."""
    return NEGATIVE + prompt


def instruction() -> str:
    """What stands before every prompt: the default of diffusers' pipeline."""
    takes = inspect.signature(diffusers.SanaPipeline.__call__).parameters
    lines: list[str] = takes["complex_human_instruction"].default
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class SanaTextModel:
    """Room 1's model: Gemma 2, prompts behind an instruction, negative ones alone.

    Attributes:
        instruction: What stands before every prompt.
        length: Tokens of an instruction and a prompt, with the mark at their beginning.
    """

    tokenizer: Any
    text_encoder: Any
    instruction: str
    length: int = field(init=False)

    def __post_init__(self) -> None:
        # The mark and the instruction's last token are among the 300 that are taken.
        length = len(self.tokenizer.encode(self.instruction)) + LENGTH - 2
        object.__setattr__(self, "length", length)

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
        return (num_chunks * LENGTH, self.text_encoder.config.hidden_size + 1)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Tokens `[n, 3, length]` (ids, mask, which are taken), and which prompts were cut."""
        found = [self._tokenize(prompt) for prompt in prompts]
        return torch.stack([tokens for tokens, _ in found]), [cut for _, cut in found]

    def _tokenize(self, prompt: str) -> tuple[Tensor, bool]:
        own = prompt.removeprefix(NEGATIVE)
        text, length, first = own.lower().strip(), LENGTH, LENGTH
        if own == prompt:
            text, length, first = self.instruction + text, self.length, 1
        whole = self.tokenizer(text, truncation=False, verbose=False).input_ids
        padded = self.tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        tokens = torch.zeros(3, self.length, dtype=torch.long)
        tokens[0] = self.tokenizer.pad_token_id
        tokens[0, :length], tokens[1, :length] = padded.input_ids[0], padded.attention_mask[0]
        tokens[2, :first], tokens[2, length - LENGTH + first : length] = 1, 1
        return tokens, len(whole) > length

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings with the mask as last column, `[n, 300, width + 1]`."""
        ids, mask, taken = tokens.to(self.text_encoder.device).unbind(1)
        embeds = self.text_encoder(ids, attention_mask=mask, use_cache=False)[0]
        places = taken.bool()
        shape = (len(tokens), LENGTH)
        return pack(embeds[places].view(*shape, -1), mask[places].view(shape))


@dataclass(frozen=True, slots=True)
class SanaTransformer(MaskedTransformer):
    """Room 2's model: its timesteps have a scale of their own."""

    def told(self, inputs: LaneInputs) -> Mapping[str, Any]:
        """Timesteps."""
        return {"timestep": inputs.timesteps * self.transformer.config.timestep_scale}


@dataclass(frozen=True, slots=True)
class DeepCompressionVae:
    """Room 3's model: the decoder of a deep-compression autoencoder (Chen et al., DC-AE, 2024)."""

    vae: Any

    @property
    def scale(self) -> int:
        """Pixels per latent cell, in each direction."""
        return int(2 ** (len(self.vae.config.encoder_block_out_channels) - 1))

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures `[n, 3, H, W]` around [-1, 1] in float32, from latents `[n, C, h, w]`."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        pictures: Tensor = self.vae.decode(scaled, return_dict=False)[0]
        return pictures.float()


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Rooms:
    """Fill the rooms from a diffusers folder."""
    wide = torch.bfloat16 if dtype == torch.float16 else dtype
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        str(folder / "tokenizer"), local_files_only=True, padding_side="right"
    )
    text = load_part(transformers.Gemma2Model, folder, "text_encoder", device, wide)
    kind = diffusers.SanaTransformer2DModel
    transformer = load_part(kind, folder, "transformer", device, dtype)
    vae = load_part(diffusers.AutoencoderDC, folder, "vae", device, wide)
    return join(tokenizer, text, transformer, vae)


def join(tokenizer: Any, text_encoder: Any, transformer: Any, vae: Any) -> Rooms:
    """Fill the rooms with parts that lie on their device, wherever they came from."""
    components = {
        "tokenizer": tokenizer,
        "text_encoder": text_encoder,
        "transformer": transformer,
        "vae": vae,
    }
    text = SanaTextModel(tokenizer, text_encoder, instruction())
    rooms = (text, SanaTransformer(transformer), DeepCompressionVae(vae))
    return Rooms(*rooms, components, negative_text=negative_text, flow=True)

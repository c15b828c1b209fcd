"""Stable Diffusion 3 and 3.5: how their parts fill the three rooms.

Two CLIP encoders side by side, zeros up to T5's width, then T5's own tokens; their pooled
vectors reach the model beside them. T5 may be left out, its tokens are zeros then. The calls
are those of diffusers' StableDiffusion3Pipeline without skip-layer guidance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor
from torch.nn.functional import pad

from sdbatch.render.families.pooled import append_pooled, clip_ids, pooled_rows, split_pooled
from sdbatch.render.families.rooms import Rooms, Size, TimingOf, load_part
from sdbatch.render.families.sd import SdVae
from sdbatch.render.families.t5 import T5, load_t5
from sdbatch.render.families.transformer import Transformer
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.schedulers import Timing

T5_TOKENS = 256
"""`max_sequence_length` of diffusers' pipeline: every text has it, whatever its length."""


@dataclass(frozen=True, slots=True)
class Sd3TextModel:
    """Room 1's model.

    Attributes:
        tokenizers, clips: CLIP-L, then CLIP-bigG.
        t5: None for a model that comes without.
        width: Numbers that the model takes of each token.
    """

    tokenizers: tuple[Any, Any]
    clips: tuple[Any, Any]
    t5: T5 | None
    width: int

    @property
    def weighted(self) -> bool:
        """Prompts are read as they are."""
        return False

    @property
    def zero_negative(self) -> bool:
        """An absent negative prompt is the empty text."""
        return False

    @property
    def _clip_tokens(self) -> int:
        return int(self.tokenizers[0].model_max_length)

    def shape(self, num_chunks: int = 1) -> tuple[int, int]:  # noqa: ARG002  # never more than one
        """(rows, width): CLIP's tokens, T5's, and the pooled vectors."""
        pooled = sum(clip.config.projection_dim for clip in self.clips)
        return (self._clip_tokens + T5_TOKENS + pooled_rows(pooled, self.width), self.width)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Ids `[n, tokens]` of all encoders in a row, and which prompts none of them saw whole."""
        found = [clip_ids(words, prompts, self._clip_tokens) for words in self.tokenizers]
        ids, cut = [each[0] for each in found], found[0][1]
        if self.t5 is not None:
            tokens, cut = self.t5.tokenize(prompts)
            ids.append(tokens.flatten(1))
        return torch.cat(ids, 1), cut

    def embed(self, tokens: Tensor) -> Tensor:
        """What the model is told, `[n, rows, width]`, of tokens as `tokenize` gives them."""
        length = self._clip_tokens
        ids = tokens[:, :length], tokens[:, length : 2 * length]
        texts = [
            clip(each.to(clip.device), output_hidden_states=True)
            for clip, each in zip(self.clips, ids, strict=True)
        ]
        seen = torch.cat([text.hidden_states[-2] for text in texts], 2)
        seen = pad(seen, (0, self.width - seen.shape[2]))
        return append_pooled(
            torch.cat([seen, self._t5_embeds(tokens[:, 2 * length :], seen)], 1),
            torch.cat([text.text_embeds for text in texts], 1),
        )

    def _t5_embeds(self, tokens: Tensor, like: Tensor) -> Tensor:
        if self.t5 is None:
            return like.new_zeros(len(like), T5_TOKENS, self.width)
        return self.t5.embed(tokens.view(len(tokens), 2, -1)).to(like.dtype)


class Sd3Transformer(Transformer):
    """Room 2's model: one call of the transformer for a whole pass."""

    __slots__ = ()

    def predict(self, inputs: LaneInputs) -> Tensor:
        """The flow's velocity `[L, C, h, w]` in float32."""
        size = self.transformer.config.pooled_projection_dim
        embeds, pooled = split_pooled(inputs.embeds.to(self.dtype), size)
        return self.call(
            (*inputs.latents.shape, embeds.shape[1]),
            hidden_states=inputs.latents.to(self.dtype),
            timestep=inputs.timesteps,
            encoder_hidden_states=embeds,
            pooled_projections=pooled,
        )


def token_timing(pixels_per_token: int) -> TimingOf:
    """Steps as SD3's pipeline lays them: shifted by the picture's size where the scheduler is."""

    def timing(size: Size, steps: int) -> Timing:  # noqa: ARG001  # a `TimingOf`
        width, height = size
        return Timing(tokens=(width // pixels_per_token) * (height // pixels_per_token))

    return timing


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> Rooms:
    """Fill the rooms from a diffusers folder."""
    texts: dict[str, Any] = {}
    for number in ("", "_2"):
        texts[f"tokenizer{number}"] = transformers.CLIPTokenizer.from_pretrained(
            str(folder / f"tokenizer{number}"), local_files_only=True
        )
        texts[f"text_encoder{number}"] = load_part(
            transformers.CLIPTextModelWithProjection,
            *(folder, f"text_encoder{number}", device, dtype),
        )
    index = json.loads((folder / "model_index.json").read_text())
    t5 = None
    if (index.get("text_encoder_3") or [None])[0]:
        t5 = load_t5(folder, "tokenizer_3", "text_encoder_3", T5_TOKENS, device, dtype)
    transformer = load_part(diffusers.SD3Transformer2DModel, folder, "transformer", device, dtype)
    vae = load_part(diffusers.AutoencoderKL, folder, "vae", device, dtype)
    return join(texts, t5, transformer, vae)


def join(texts: dict[str, Any], t5: T5 | None, transformer: Any, vae: Any) -> Rooms:
    """Fill the rooms with parts that lie on their device, wherever they came from.

    Args:
        texts: CLIP's two tokenizers and encoders, by diffusers' names.
        t5: None for a model that comes without.
    """
    parts = {**texts, "transformer": transformer, "vae": vae}
    if t5 is not None:
        parts |= {"tokenizer_3": t5.tokenizer, "text_encoder_3": t5.encoder}
    text_model = Sd3TextModel(
        tokenizers=(texts["tokenizer"], texts["tokenizer_2"]),
        clips=(texts["text_encoder"], texts["text_encoder_2"]),
        t5=t5,
        width=int(transformer.config.joint_attention_dim),
    )
    decoder = SdVae(vae)
    return Rooms(
        text_model,
        Sd3Transformer(transformer),
        decoder,
        parts,
        token_timing(decoder.scale * transformer.config.patch_size),
        flow=True,
    )

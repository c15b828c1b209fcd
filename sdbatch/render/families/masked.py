"""Transformers that are told which tokens of a text are padding: PixArt and Sana.

Room 1 gives one tensor a prompt, so the mask is its last column: 1 beside a token, 0 beside
padding. A padded lane is all zeros: it masks everything, which the models take for nothing
masked, so it holds no NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdbatch.records import RenderRow
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.speed import Passes


def pack(embeds: Tensor, mask: Tensor) -> Tensor:
    """Embeddings `[n, length, width]` and mask `[n, length]` as `[n, length, width + 1]`."""
    return torch.cat([embeds, mask[:, :, None].to(embeds.dtype)], 2)


def unpack(packed: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Embeddings `[n, length, width]` in `dtype` and mask `[n, length]` of what `pack` made."""
    return packed[:, :, :-1].to(dtype).contiguous(), packed[:, :, -1]


@dataclass(frozen=True, slots=True)
class MaskedTransformer:
    """Room 2's model: one call of the transformer for a whole pass.

    Attributes:
        passes: What every call is surrounded with.
        dtype: Number type it computes in; diffusers looks through all weights to find it.
    """

    transformer: Any
    passes: Passes = field(default_factory=Passes)
    dtype: torch.dtype = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", self.transformer.dtype)

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.transformer.config.in_channels)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.transformer.device
        return device

    @property
    def num_numbers(self) -> int:
        """None: the text is all that it is told."""
        return 0

    def row_numbers(self, row: RenderRow) -> tuple[float, ...]:  # noqa: ARG002  # a `NoiseModel`
        """None."""
        return ()

    def told(self, inputs: LaneInputs) -> Mapping[str, Any]:
        """What the transformer is told beside latents and text, by its parameter names."""
        return {"timestep": inputs.timesteps}

    def predict(self, inputs: LaneInputs) -> Tensor:
        """Model output `[L, C, h, w]` in float32; a learned variance behind it is dropped."""
        embeds, mask = unpack(inputs.embeds, self.dtype)
        with self.passes.around((*inputs.latents.shape, inputs.embeds.shape[1])):
            output: Tensor = self.transformer(
                inputs.latents.to(self.dtype),
                encoder_hidden_states=embeds,
                encoder_attention_mask=mask,
                **self.told(inputs),
                return_dict=False,
            )[0]
        return output[:, : self.channels].float()

"""What diffusion transformers have in common: one call for a whole pass, told the text alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdbatch.records import RenderRow
from sdbatch.render.speed import Passes


@dataclass(frozen=True, slots=True)
class Transformer:
    """Room 2's model but for `predict`, which is its family's.

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

    def call(self, shape: tuple[int, ...], **inputs: Any) -> Tensor:
        """Its output in float32, surrounded by what every call is surrounded with.

        Args:
            shape: What tells one compiled shape from another.
            inputs: As its own class names them.
        """
        with self.passes.around(shape):
            output: Tensor = self.transformer(**inputs, return_dict=False)[0]
        return output.float()

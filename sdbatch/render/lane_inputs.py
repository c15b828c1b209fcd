"""What a model is told in one pass: latents, times, texts, and numbers of the rows themselves.

One shape for every pass of a plan, whatever the family. What a text encoder gives is one
tensor a prompt: families that have more than embeddings (a pooled vector, a mask) pack it
into further rows of that tensor and take it apart again where they call their model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


def _none() -> Tensor:
    return torch.zeros(1, 0)


@dataclass(frozen=True, slots=True, eq=False)
class LaneInputs:
    """Inputs of one model call, all in float32.

    Attributes:
        latents: `[L, C, h, w]`, scaled as the scheduler wants them.
        timesteps: `[L]`.
        embeds: What room 1 made of each lane's prompt, `[L, rows, width]`.
        numbers: What else the model is told of a row, `[L, N]`; N is a matter of the family
            (guidance that is an input, sizes), 0 for most.
    """

    latents: Tensor
    timesteps: Tensor
    embeds: Tensor
    numbers: Tensor = field(default_factory=_none)

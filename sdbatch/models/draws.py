"""Chance for one training step: generators made from the seed and the step's number.

No generator lives longer than its step, so a training that was interrupted goes on exactly as if
it had not been, and a measurement in between disturbs nothing.
"""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from torch import Tensor


class Draws:
    """What one step may draw from."""

    def __init__(self, seed: int, step: int) -> None:
        self.numpy = np.random.default_rng([seed, step])
        self.words = Random(f"{seed}:{step}")
        self._torch = torch.Generator().manual_seed(int(self.numpy.integers(2**62)))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, drawn on the CPU whatever device they are for."""
        return torch.randn(shape, generator=self._torch)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1, drawn on the CPU."""
        return torch.rand(shape, generator=self._torch)

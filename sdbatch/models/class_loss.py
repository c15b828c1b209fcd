"""How wrong scores of one attribute are, over the scenes in which it means something."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def class_loss(scores: Tensor, classes: Tensor, counts: Tensor) -> Tensor:
    """Mean cross entropy; zero when no scene counts.

    Args:
        scores: `[N, classes]`.
        classes: The true ones, `[N]`.
        counts: Which scenes count, `[N]` of bool.
    """
    losses = functional.cross_entropy(scores, classes, reduction="none")
    return (losses * counts).sum() / counts.sum().clamp(min=1)

"""Muon: steps for matrices whose directions count equally.

A matrix's momentum is made nearly orthogonal before it is applied, so that rare directions are
learned as fast as common ones; for small models on few samples that saves a third of them and
more. Everything that is no matrix (biases, norms, embeddings, the few channels at both ends)
goes with AdamW.

Sources: K. Jordan, "Muon: an optimizer for hidden layers" (2024); the scale that lets both share
one learning rate: J. Liu et al., "Muon is scalable for LLM training" (2025).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

LEAST_SIDE = 16
"""Matrices with fewer rows or columns are left to AdamW."""

_MOMENTUM = 0.95
_ADAMW_RMS = 0.2
_ITERATIONS = 5
_COEFFICIENTS = 3.4445, -4.7750, 2.0315


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearest semi-orthogonal matrices of `[n, rows, columns]`, roughly, by Newton and Schulz."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(torch.bfloat16)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return torch.as_tensor(x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Steps of orthogonal momentum for parameters of two dimensions and more.

    A convolution `[out, in, h, w]` counts as the matrix `[out, in * h * w]`.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Apply one step; matrices of one shape are made orthogonal together."""
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[len(parameter), parameter[0].numel()].append(parameter)
            for shape, parameters in alike.items():
                self._apply(shape, parameters, group["lr"], group["weight_decay"])

    def _apply(
        self, shape: tuple[int, int], parameters: list[Tensor], lr: float, decay: float
    ) -> None:
        ahead = [self._momentum(parameter).reshape(shape) for parameter in parameters]
        scale = _ADAMW_RMS * max(shape) ** 0.5
        for parameter, update in zip(parameters, orthogonal(torch.stack(ahead)), strict=True):
            parameter.mul_(1 - lr * decay)
            parameter.add_(update.view_as(parameter), alpha=-lr * scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """The parameter's gradient, ahead by Nesterov's half step."""
        state: dict[str, Any] = self.state[parameter]
        gradient = parameter.grad
        if gradient is None:
            return torch.zeros_like(parameter)
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(state["momentum"], _MOMENTUM)


def optimizers_for(model: nn.Module, lr: float, weight_decay: float = 0.01) -> list[Any]:
    """Muon for the model's matrices and AdamW for the rest, of what is to be trained."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        sides = (len(parameter), parameter[0].numel()) if parameter.ndim > 1 else (0, 0)
        is_matrix = min(sides) >= LEAST_SIDE and id(parameter) not in tables
        (matrices if is_matrix else others).append(parameter)
    made: list[Any] = [torch.optim.AdamW(others, lr, (0.9, 0.99), weight_decay=0.0)]
    return [Muon(matrices, lr, weight_decay), *made] if matrices else made

"""What the machine computes fast: the number type of a training step, and who holds the model."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def fast_type(device: str) -> torch.dtype:
    """bfloat16 where its products are quicker than float32's, else float32."""
    if device == "cpu" and not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return torch.float32
    return torch.bfloat16


def fast(device: str) -> AbstractContextManager[object]:
    """A context in which matrix products run in the fast type."""
    dtype = fast_type(device)
    return torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16)

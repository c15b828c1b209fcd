"""CLIP's part in families that have T5 beside it, and how its pooled vector travels.

Room 1 gives one tensor a prompt, `[rows, width]`. A pooled vector is one number a place, so it
is laid into further rows of that tensor, filled up with zeros, and taken out again where the
model is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def pooled_rows(size: int, width: int) -> int:
    """Rows of so many numbers that a vector takes."""
    return -(-size // width)


def append_pooled(embeds: Tensor, pooled: Tensor) -> Tensor:
    """Embeddings `[n, length, width]` and vectors `[n, size]` as one, `[n, rows, width]`."""
    count, _, width = embeds.shape
    rows = pooled_rows(pooled.shape[1], width)
    filled = pad(pooled, (0, rows * width - pooled.shape[1])).view(count, rows, width)
    return torch.cat([embeds, filled.to(embeds.dtype)], 1)


def split_pooled(packed: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The inverse of `append_pooled` for vectors of that size."""
    rows = pooled_rows(size, packed.shape[2])
    return packed[:, :-rows], packed[:, -rows:].flatten(1)[:, :size]


def clip_ids(tokenizer: Any, prompts: Sequence[str], length: int) -> tuple[Tensor, list[bool]]:
    """Ids `[n, length]`, and which prompts are longer than that."""
    whole = tokenizer(list(prompts), truncation=False, verbose=False).input_ids
    padded = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    )
    return padded.input_ids, [len(ids) > length for ids in whole]

"""Captions become conditioning: tokenizer and text encoder, frozen, as the denoiser has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor


class Prompts:
    """Tokenizer and text encoder of a model folder."""

    def __init__(self, tokenizer: Any, encoder: Any, device: str = "cpu") -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder.eval().requires_grad_(False).to(device)
        self._device = device

    @classmethod
    def load(cls, model: Path, device: str = "cpu") -> Prompts:
        """The first room of a diffusers folder, in float32."""
        tokenizer = transformers.CLIPTokenizer.from_pretrained(model / "tokenizer")
        encoder: Any = transformers.CLIPTextModel.from_pretrained(model / "text_encoder")
        return cls(tokenizer, encoder.float(), device)

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Token numbers `[n, length]`, padded and cut to the model's length."""
        made = self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        )
        return torch.as_tensor(made.input_ids)

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> Tensor:
        """Embeddings `[n, length, width]` on the device."""
        return torch.as_tensor(self.encoder(self.tokens(captions).to(self._device))[0])

"""T5 as text encoder: prompts of one fixed length, for every family that has one.

The length is the family's and never the prompts': padding to the longest of a batch would let
one prompt's embeddings depend on its neighbours. Some families mask the padding, in the
encoder or later in their model; others, SD3 and Flux among them, let both see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from sdbatch.render.families.rooms import load_part


@dataclass(frozen=True, slots=True)
class T5:
    """A T5 encoder and its tokenizer.

    Attributes:
        length: Tokens of every text, padding included.
        masked: The encoder is told which tokens are padding.
    """

    tokenizer: Any
    encoder: Any
    length: int
    masked: bool = False

    @property
    def width(self) -> int:
        """Numbers of each token's embedding."""
        return int(self.encoder.config.d_model)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Tokens `[n, 2, length]` (ids and mask), and which prompts are longer than that."""
        whole = self.tokenizer(list(prompts), truncation=False, verbose=False).input_ids
        padded = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.length,
            truncation=True,
            return_tensors="pt",
        )
        tokens = torch.stack([padded.input_ids, padded.attention_mask], 1)
        return tokens, [len(ids) > self.length for ids in whole]

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings `[n, length, width]` of tokens `[n, 2, length]`."""
        ids, mask = tokens.to(self.encoder.device).unbind(1)
        embeds: Tensor = self.encoder(ids, attention_mask=mask if self.masked else None)[0]
        return embeds


def load_t5(
    folder: Path,
    tokenizer: str,
    encoder: str,
    length: int,
    device: torch.device,
    dtype: torch.dtype,
    masked: bool = False,
) -> T5:
    """Load a T5 of a diffusers folder.

    Args:
        folder: The model's folder.
        tokenizer, encoder: Folders in it.
        length: Tokens of every text.
        masked: The encoder is told which tokens are padding.
    """
    words = transformers.T5Tokenizer.from_pretrained(str(folder / tokenizer), local_files_only=True)
    model = load_part(transformers.T5EncoderModel, folder, encoder, device, dtype)
    return T5(words, model, length, masked)

"""Room 1: prompts become conditioning, each prompt once.

A prompt's embedding must not depend on what was encoded beside it, so every call of the
model has the same shape: `CHUNK` prompts of the model's fixed length, short chunks filled
up with empty prompts. Finished embeddings are kept, the least recently used ones leave
first. Latents, lanes and pictures are unknown here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sdbatch.manifest.prompt_syntax import PLAIN
from sdbatch.render.weighted_encoder import ChunkModel, WeightedEncoder

CHUNK = 8
CACHE_BYTES = 128 * 2**20


class TextModel(ChunkModel, Protocol):
    """What a model family gives this room."""

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Tokens `[n, ...]` of a fixed length, and which prompts were cut to it."""
        ...

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings `[n, length, width]`."""
        ...


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the denoiser is told of one prompt.

    Attributes:
        embeds: `[length, width]`, on the device; of weighted prompts `[chunks * length, width]`.
        truncated: The prompt was longer than the model takes.
    """

    embeds: Tensor
    truncated: bool


class TextEncoder:
    """Encodes prompts and keeps what it has encoded."""

    def __init__(self, model: TextModel, cache_bytes: int = CACHE_BYTES) -> None:
        self._model = model
        self._cache: OrderedDict[str, Conditioning] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._weighted = WeightedEncoder(model, CHUNK, cache_bytes)

    def num_chunks(self, prompts: Sequence[str], syntax: str = PLAIN) -> int:
        """Texts of the model's fixed length that the longest of these prompts makes.

        Raises:
            InputError: One of them asks for what cannot be drawn, or is too long.
        """
        return 1 if syntax == PLAIN else self._weighted.num_chunks(prompts)

    def encode(
        self, prompts: Sequence[str], ahead: Iterable[str] = (), syntax: str = PLAIN
    ) -> list[Conditioning]:
        """Conditioning of each prompt, in order; all of one shape.

        Args:
            prompts: Wanted now.
            ahead: Wanted soon: they fill places of a chunk that would stay empty.
            syntax: How all of them are read; only plain ones are ever cut.

        Raises:
            InputError: One of `prompts` asks for what cannot be drawn, or is too long.
        """
        if syntax != PLAIN:
            found_weighted = self._weighted.encode(prompts, ahead)
            return [Conditioning(embeds, truncated=False) for embeds in found_weighted]
        wanted = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._cache]
        found = {prompt: self._cache[prompt] for prompt in prompts if prompt in self._cache}
        if wanted:
            spare = -len(wanted) % CHUNK
            later = (each for each in dict.fromkeys(ahead) if each not in self._cache)
            extra = [each for each in later if each not in wanted][:spare]
            todo = wanted + extra
            for first in range(0, len(todo), CHUNK):
                found |= self._encode_chunk(todo[first : first + CHUNK])
        for prompt in (*found, *prompts):
            self._cache[prompt] = found[prompt]
            self._cache.move_to_end(prompt)
        self._shrink()
        return [found[prompt] for prompt in prompts]

    def _encode_chunk(self, prompts: Sequence[str]) -> dict[str, Conditioning]:
        filled = [*prompts, *[""] * (CHUNK - len(prompts))]
        with torch.inference_mode():
            tokens, truncated = self._model.tokenize(filled)
            embeds = self._model.embed(tokens)
        return {
            prompt: Conditioning(embeds[i].clone(), truncated[i])
            for i, prompt in enumerate(prompts)
        }

    def _shrink(self) -> None:
        held = sum(entry.embeds.nbytes for entry in self._cache.values())
        while held > self._cache_bytes and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            held -= dropped.embeds.nbytes

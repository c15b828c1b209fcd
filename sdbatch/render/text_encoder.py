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
from typing import Protocol, cast

import torch
from torch import Tensor

from sdbatch.errors import InputError
from sdbatch.manifest.prompt_syntax import PLAIN
from sdbatch.render.memory.memory_rooms import RESIDENT, Residence, Room
from sdbatch.render.weighted_encoder import ChunkModel, WeightedEncoder

CHUNK = 8
CACHE_BYTES = 128 * 2**20


class TextModel(Protocol):
    """What a model family gives this room; a `ChunkModel` too where prompts may be weighted."""

    def tokenize(self, prompts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Tokens `[n, ...]` of a fixed length, and which prompts were cut to it."""
        ...

    def embed(self, tokens: Tensor) -> Tensor:
        """What it makes of them, `[n, rows, width]`: embeddings, and what else is packed in."""
        ...

    @property
    def weighted(self) -> bool:
        """Whether prompts may be in A1111's syntax: cut into chunks and weighed."""
        ...

    @property
    def zero_negative(self) -> bool:
        """Whether no negative prompt is all zeros, rather than an empty text."""
        ...

    def shape(self, num_chunks: int = 1) -> tuple[int, int]:
        """(rows, width) of what a prompt of so many chunks becomes."""
        ...


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What the denoiser is told of one prompt.

    Attributes:
        embeds: `[rows, width]`, on the device or the host; of weighted prompts as many rows
            for each chunk.
        truncated: The prompt was longer than the model takes.
    """

    embeds: Tensor
    truncated: bool


class TextEncoder:
    """Encodes prompts and keeps what it has encoded.

    Args:
        model: Of the family.
        cache_bytes: Room for finished embeddings.
        residence: Where the model lies, and its embeddings.
    """

    def __init__(
        self,
        model: TextModel,
        cache_bytes: int = CACHE_BYTES,
        residence: Residence = RESIDENT,
    ) -> None:
        self._model, self._residence = model, residence
        self._cache: OrderedDict[str, Conditioning] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._weighted: WeightedEncoder | None = None
        if model.weighted:
            chunked = cast("ChunkModel", model)
            self._weighted = WeightedEncoder(chunked, CHUNK, cache_bytes, residence)

    def num_chunks(self, prompts: Sequence[str], syntax: str = PLAIN) -> int:
        """Texts of the model's fixed length that the longest of these prompts makes.

        Raises:
            InputError: One of them asks for what cannot be drawn, or is too long.
        """
        return 1 if syntax == PLAIN else self._weigher(syntax).num_chunks(prompts)

    def shape(self, num_chunks: int = 1) -> tuple[int, int]:
        """(rows, width) of the conditioning of prompts of so many chunks."""
        return self._model.shape(num_chunks)

    def no_negative(self, conditional: Conditioning) -> Conditioning | None:
        """What stands for an absent negative prompt; None where the empty text does."""
        if not self._model.zero_negative:
            return None
        return Conditioning(torch.zeros_like(conditional.embeds), truncated=False)

    def _weigher(self, syntax: str) -> WeightedEncoder:
        if self._weighted is None:
            raise InputError(f"prompt_syntax: {syntax}: this model reads plain prompts only")
        return self._weighted

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
            found_weighted = self._weigher(syntax).encode(prompts, ahead)
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
        self._residence.enter(Room.TEXT)
        with torch.inference_mode():
            tokens, truncated = self._model.tokenize(filled)
            embeds = self._residence.keep(self._model.embed(tokens))
        return {
            prompt: Conditioning(embeds[i].clone(), truncated[i])
            for i, prompt in enumerate(prompts)
        }

    def _shrink(self) -> None:
        held = sum(entry.embeds.nbytes for entry in self._cache.values())
        while held > self._cache_bytes and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            held -= dropped.embeds.nbytes

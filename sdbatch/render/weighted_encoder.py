"""Room 1 for prompts in A1111's syntax: chunks encoded apart, weighed, joined in a row.

Each chunk is a text of its own to the model. Its embeddings are multiplied by the weight of
their token and then by one number, so that their mean is what it was before; a chunk without
weights keeps its bits. As in A1111 this is done chunk by chunk and encoder by encoder, before
they are joined, and what an encoder says of the whole text stands as it is: a prompt has that
of its first chunk. Calls of the model have one shape, and the rest of a chunk's way takes
nothing but itself, so its embeddings do not depend on what was encoded beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor

from sdbatch.errors import InputError
from sdbatch.render.memory.memory_rooms import RESIDENT, Residence, Room
from sdbatch.render.prompt_chunks import Frame, PromptChunk, PromptChunks, WordModel


class ChunkModel(WordModel, Protocol):
    """What a model family gives this room."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings `[n, length, width]` of ids and mask `[n, 2, length]`, pooled rows behind."""
        ...


class WeightedEncoder:
    """Encodes weighted prompts and keeps the chunks it has encoded.

    Args:
        model: The text model.
        at_once: Chunks in every call of it.
        cache_bytes: Room for finished chunks.
        residence: Where the model lies, and its embeddings.
    """

    def __init__(
        self,
        model: ChunkModel,
        at_once: int,
        cache_bytes: int,
        residence: Residence = RESIDENT,
    ) -> None:
        self._residence = residence
        self._model, self._at_once, self._cache_bytes = model, at_once, cache_bytes
        self._chunks = PromptChunks(model)
        self._cache: OrderedDict[PromptChunk, Tensor] = OrderedDict()

    def num_chunks(self, prompts: Sequence[str]) -> int:
        """Chunks of the longest of these prompts.

        Raises:
            InputError: One of them asks for what cannot be drawn, or is too long.
        """
        return max(len(self._chunks.cut(prompt)) for prompt in prompts)

    def encode(self, prompts: Sequence[str], ahead: Iterable[str] = ()) -> list[Tensor]:
        """Embeddings `[chunks * length (+ pooled rows), width]` of each prompt, float32, in order.

        All have the length of the longest: shorter ones go on with chunks of an empty prompt.

        Args:
            prompts: Wanted now, and together.
            ahead: Wanted soon: their chunks fill places of a call that would stay empty.

        Raises:
            InputError: One of `prompts` asks for what cannot be drawn, or is too long.
        """
        cut = [self._chunks.cut(prompt) for prompt in prompts]
        longest, empty = max(map(len, cut)), self._empty
        filled = [[*chunks, *[empty] * (longest - len(chunks))] for chunks in cut]
        found = self._find([chunk for chunks in filled for chunk in chunks], ahead)
        with torch.inference_mode():
            return [self._joined([found[chunk] for chunk in chunks]) for chunks in filled]

    @property
    def _empty(self) -> PromptChunk:
        return self._chunks.cut("")[0]

    def _find(
        self, chunks: Sequence[PromptChunk], ahead: Iterable[str]
    ) -> dict[PromptChunk, Tensor]:
        wanted = dict.fromkeys(chunks)
        todo = [chunk for chunk in wanted if chunk not in self._cache]
        found = {chunk: self._cache[chunk] for chunk in wanted if chunk in self._cache}
        if todo:
            spare = -len(todo) % self._at_once
            todo += list(self._wanted_soon(ahead, wanted, spare))
            for first in range(0, len(todo), self._at_once):
                found |= self._encode(todo[first : first + self._at_once])
        for chunk in (*found, *wanted):
            self._cache[chunk] = found[chunk]
            self._cache.move_to_end(chunk)
        self._shrink()
        return found

    def _wanted_soon(
        self, ahead: Iterable[str], wanted: dict[PromptChunk, None], spare: int
    ) -> Iterator[PromptChunk]:
        """At most `spare` chunks that nobody has asked for yet."""
        taken: set[PromptChunk] = set()
        for prompt in ahead if spare else ():
            with suppress(InputError):  # told when its own row is prepared
                for chunk in self._chunks.cut(prompt):
                    if len(taken) == spare:
                        return
                    if chunk not in self._cache and chunk not in wanted and chunk not in taken:
                        taken.add(chunk)
                        yield chunk

    def _encode(self, chunks: Sequence[PromptChunk]) -> dict[PromptChunk, Tensor]:
        filled = [*chunks, *[self._empty] * (self._at_once - len(chunks))]
        ids = [chunk.tokens for chunk in filled]
        self._residence.enter(Room.TEXT)
        keep = self._residence.keep
        masks = [[1] * each.used + [0] * (len(each.tokens) - each.used) for each in filled]
        with torch.inference_mode():
            tokens = torch.stack([torch.tensor(ids), torch.tensor(masks)], 1)
            embeds = self._model.embed(tokens).float()
            return {
                chunk: keep(weighed_chunk(embeds[i].clone(), chunk.weights, self._chunks.frame))
                for i, chunk in enumerate(chunks)
            }

    def _joined(self, chunks: Sequence[Tensor]) -> Tensor:
        """Embeddings of all chunks in a row, then the pooled rows of the first."""
        length = self._chunks.frame.length
        return torch.cat([*(chunk[:length] for chunk in chunks), chunks[0][length:]])

    def _shrink(self) -> None:
        held = sum(embeds.nbytes for embeds in self._cache.values())
        while held > self._cache_bytes and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            held -= dropped.nbytes


def weighed_chunk(chunk: Tensor, weights: Sequence[float], frame: Frame) -> Tensor:
    """A chunk `[length + pooled rows, width]` with each encoder's embeddings weighed."""
    texts, pooled = chunk[: frame.length], chunk[frame.length :]
    parts = torch.split(texts, list(frame.widths), 1) if frame.widths else (texts,)
    return torch.cat([torch.cat([weighed(part, weights) for part in parts], 1), pooled])


def weighed(embeds: Tensor, weights: Sequence[float]) -> Tensor:
    """Embeddings `[length, width]` times the weights of their tokens, with the mean they had."""
    if all(weight == 1.0 for weight in weights):
        return embeds
    scaled = embeds * torch.tensor(weights, device=embeds.device)[:, None]
    return scaled * (embeds.mean() / scaled.mean())

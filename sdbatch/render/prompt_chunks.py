"""Weighted prompts as tokens: chunks of the model's fixed length, a weight for every token.

What A1111's users expect of a long prompt: every 75 tokens (what the model takes, less the two
marks around them) make a chunk, a `BREAK` ends one early, and where a chunk is full within a
few tokens of a comma it ends at that comma, so that no phrase is torn apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sdbatch.errors import InputError
from sdbatch.manifest.prompt_syntax import (
    ParsedPrompt,
    chunks_fault,
    parse_prompt,
    prompt_fault,
)

COMMA_REACH = 20
"""A full chunk ends at a comma that stands among its last tokens, this many of them."""
KEPT_PROMPTS = 4096


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the tokens of a chunk.

    Attributes:
        begin: Token before the first one.
        end: Token behind the last one.
        fill: Token of empty places.
        comma: Token of a comma; -1 where the model has none.
        length: Tokens of a chunk with both marks.
        widths: Of encoders whose embeddings lie side by side, each weighed by itself; empty
            where there is one.
        pooled_rows: Rows behind a chunk's embeddings that say something of the whole text:
            they are not weighed, and a prompt has those of its first chunk.
    """

    begin: int
    end: int
    fill: int
    comma: int
    length: int
    widths: tuple[int, ...] = ()
    pooled_rows: int = 0


@dataclass(frozen=True, slots=True)
class PromptChunk:
    """One chunk: the model is called with its tokens, then each is weighed.

    Attributes:
        tokens: As many as the model takes, marks and filling among them.
        weights: One for every token; 1 for marks and filling.
        used: Tokens up to the mark at the end, which it includes.
    """

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    used: int


class WordModel(Protocol):
    """What a model family says of its tokens."""

    @property
    def frame(self) -> Frame:
        """What stands around the tokens of a chunk."""
        ...

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, without marks, however many there are."""
        ...


class PromptChunks:
    """Cuts prompts into chunks and keeps what was cut last."""

    def __init__(self, model: WordModel) -> None:
        self._model = model
        self._frame: Frame | None = None
        self._kept: OrderedDict[str, tuple[PromptChunk, ...]] = OrderedDict()

    @property
    def frame(self) -> Frame:
        """What stands around the tokens of a chunk."""
        self._frame = self._frame or self._model.frame
        return self._frame

    def cut(self, prompt: str) -> tuple[PromptChunk, ...]:
        """The chunks of a prompt in A1111's syntax; one at least.

        Raises:
            InputError: The prompt asks for what cannot be drawn, or is too long.
        """
        chunks = self._kept.pop(prompt, None) or self._cut(prompt)
        self._kept[prompt] = chunks
        if len(self._kept) > KEPT_PROMPTS:
            self._kept.popitem(last=False)
        return chunks

    def _cut(self, prompt: str) -> tuple[PromptChunk, ...]:
        parsed = parse_prompt(prompt)
        fault = prompt_fault(parsed)
        if fault:
            raise InputError(f"prompt: {fault}")
        frame = self.frame
        cut = _cut_parts(self._weighed_tokens(parsed), frame)
        fault = chunks_fault(len(cut))
        if fault:
            raise InputError(f"prompt: {fault}")
        return tuple(_framed(chunk, frame) for chunk in cut)

    def _weighed_tokens(self, parsed: ParsedPrompt) -> list[list[tuple[int, float]]]:
        """(token, weight) of every part between breaks."""
        segments = [segment for part in parsed.parts for segment in part]
        words = iter(self._model.words([segment.text for segment in segments]))
        return [
            [(token, segment.weight) for segment in part for token in next(words)]
            for part in parsed.parts
        ]


def _cut_parts(
    parts: Sequence[Sequence[tuple[int, float]]], frame: Frame
) -> list[list[tuple[int, float]]]:
    """Chunks of weighed tokens; a part begins a new one, and only the last may leave none."""
    room = frame.length - 2
    chunks: list[list[tuple[int, float]]] = []
    for number, part in enumerate(parts):
        chunk: list[tuple[int, float]] = []
        for each in part:
            if len(chunk) == room:
                place = room if each[0] == frame.comma else _end_of_phrase(chunk, frame.comma)
                chunks.append(chunk[:place])
                chunk = chunk[place:]
            chunk.append(each)
        if chunk or not chunks or number < len(parts) - 1:
            chunks.append(chunk)
    return chunks


def _end_of_phrase(chunk: Sequence[tuple[int, float]], comma: int) -> int:
    """Tokens of a full chunk that stay in it: up to its last comma, if that is near."""
    for place in range(len(chunk) - 1, max(-1, len(chunk) - 1 - COMMA_REACH), -1):
        if chunk[place][0] == comma:
            return place + 1
    return len(chunk)


def _framed(chunk: Sequence[tuple[int, float]], frame: Frame) -> PromptChunk:
    empty = frame.length - 2 - len(chunk)
    return PromptChunk(
        (frame.begin, *(token for token, _ in chunk), frame.end, *[frame.fill] * empty),
        (1.0, *(weight for _, weight in chunk), 1.0, *[1.0] * empty),
        len(chunk) + 2,
    )

r"""A1111's prompt grammar: weights, breaks and adapters told from the text they stand in.

`(x)` weighs 1.1, `(x:1.2)` 1.2, `[x]` 1/1.1; nested brackets multiply. `\(`, `\)`, `\[`, `\]`
and `\\` are the characters themselves, any other `\` is dropped. `BREAK` begins a new chunk,
`<lora:name:w>` names an adapter. As AUTOMATIC1111's stable-diffusion-webui documents it (wiki
page "Features", sections "Attention/emphasis" and "Infinite prompt length"; the examples at
`parse_prompt_attention` in its `modules/prompt_parser.py`), a bracket that is never closed
weighs all that follows, one that closes nothing is text, and round and square brackets are
matched apart. Prompts that change from step to step or are composed are told, never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

PLAIN, A1111 = "plain", "a1111"
SYNTAXES = (PLAIN, A1111)
MAX_CHUNKS = 16
"""Chunks that a prompt may have: 1,200 tokens where a chunk holds 75."""
CHUNK_TOKENS = 75
"""Tokens that a chunk holds at most; a model of shorter texts has shorter chunks."""

ROUND, SQUARE = 1.1, 1 / 1.1

_NUMBER = r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)"
_TOKEN = re.compile(
    rf"""
    \\(?P<escaped>[()\[\]\\])
    | \\
    | :\s*+(?P<weight>{_NUMBER})\s*+\)
    | :\s*+(?:{_NUMBER}(?:[eE][+-]?[0-9]++)?+)\s*+(?P<when>\])
    | (?P<bracket>[()\[\]])
    | (?P<bar>\|)
    | (?P<text>[^\\()\[\]:|]++|:)
    """,
    re.VERBOSE,
)
_ADAPTER = re.compile(r"<(lora|lyco|hypernet):([^<>]*+)>")
_BREAK = re.compile(r"\bBREAK\b")
_AND = re.compile(r"\bAND\b")
_SPECIAL = re.compile(r"[()\[\]\\]")

_COMPOSED = "AND composes prompts, which this version does not draw, write 'and'"
_EDITED = (
    r"[from:to:when] edits the prompt while it is drawn, which this version does not do, "
    r"remove it or write \[ and \]"
)
_ALTERNATED = (
    r"[a|b] alternates prompts from step to step, which this version does not draw, "
    r"remove it or write \[ and \]"
)


@dataclass(frozen=True, slots=True)
class Segment:
    """Text of one weight; never empty."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that a prompt names: `<lora:name:weight>`."""

    kind: str
    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A prompt taken apart.

    Attributes:
        parts: Segments before, between and behind the breaks: one more than there are breaks.
        adapters: In the order in which the prompt names them.
        unsupported: What stands in it that cannot be drawn, with what would be right.
    """

    parts: tuple[tuple[Segment, ...], ...]
    adapters: tuple[Adapter, ...] = ()
    unsupported: str = ""


def parse_prompt(text: str) -> ParsedPrompt:
    """Take a prompt apart; every text is a prompt. Takes time in proportion to its length."""
    adapters = tuple(_adapter(match) for match in _ADAPTER.finditer(text))
    text = _ADAPTER.sub("", text) if adapters else text
    parts = _Parts()
    for kind, value, weight in _weighed(text, _factors(text)):
        if kind == "text":
            parts.add(value, weight)
        else:
            parts.refuse(kind)
    return ParsedPrompt(parts.found(), adapters, parts.unsupported)


def format_prompt(prompt: ParsedPrompt) -> str:
    """A text that `parse_prompt` takes apart into this prompt."""
    adapters = "".join(f"<{each.kind}:{each.name}:{each.weight!r}>" for each in prompt.adapters)
    return " BREAK ".join("".join(map(_format, part)) for part in prompt.parts) + adapters


def escape(text: str) -> str:
    """The same text with brackets and backslashes that weigh nothing."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def prompt_fault(prompt: ParsedPrompt) -> str:
    """Why a prompt cannot be drawn, and what would be right; empty when it can.

    Whether it is too long is known here only of prompts with more words than there may be
    tokens; `chunks_fault` judges the rest once they are tokens.
    """
    if prompt.unsupported:
        return prompt.unsupported
    if prompt.adapters:
        first = prompt.adapters[0]
        named = f"<{first.kind}:{first.name}:...>"
        return f"{named}: this version draws without adapters, remove it from the prompt"
    if not all(math.isfinite(each.weight) for part in prompt.parts for each in part):
        return "its nested weights multiply to infinity, use smaller ones"
    return chunks_fault(least_chunks(prompt))


def syntax_fault() -> str:
    """Words for a value that names no syntax."""
    return f"must be {' or '.join(SYNTAXES)}"


def chunks_fault(chunks: int) -> str:
    """Why a prompt of that many chunks is refused; empty when it is not."""
    if chunks <= MAX_CHUNKS:
        return ""
    return (
        f"is too long: takes {chunks:,} chunks (of up to {CHUNK_TOKENS} tokens), may take "
        f"{MAX_CHUNKS}, shorten it or use fewer BREAKs"
    )


def least_chunks(prompt: ParsedPrompt) -> int:
    """Chunks that a prompt takes at least, for a word is a token or more."""
    filled = [sum(len(each.text.split()) for each in part) for part in prompt.parts]
    chunks = sum(max(1, math.ceil(words / CHUNK_TOKENS)) for words in filled)
    return max(1, chunks - (len(filled) > 1 and not filled[-1]))


def _adapter(match: re.Match[str]) -> Adapter:
    name, _, rest = match[2].partition(":")
    weight = rest.partition(":")[0].strip()
    known = re.fullmatch(_NUMBER + r"(?:[eE][+-]?[0-9]+)?", weight)
    return Adapter(match[1], name, float(weight) if known else 1.0)


def _factors(text: str) -> list[float]:
    """What every opening bracket multiplies by, in their order."""
    factors: list[float] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}
    for token in _TOKEN.finditer(text):
        bracket = token["bracket"]
        if bracket in opened:
            opened[bracket].append(len(factors))
            factors.append(ROUND if bracket == "(" else SQUARE)
        elif token["weight"] is not None and opened["("]:
            factors[opened["("].pop()] = float(token["weight"])
        elif bracket == ")" and opened["("]:
            opened["("].pop()
        elif (bracket == "]" or token["when"]) and opened["["]:
            opened["["].pop()
    return factors


@dataclass(slots=True)
class _Open:
    """The brackets that stand open: products of their factors, and where they opened."""

    products: list[float] = field(default_factory=lambda: [1.0])
    places: list[int] = field(default_factory=lambda: [-1])

    def open(self, factor: float, place: int) -> None:
        self.products.append(self.products[-1] * factor)
        self.places.append(place)

    def close(self) -> bool:
        """Close the innermost one; false when none is open."""
        if len(self.places) == 1:
            return False
        self.products.pop()
        self.places.pop()
        return True


def _weighed(text: str, factors: Sequence[float]) -> Iterator[tuple[str, str, float]]:
    """(text, the text, its weight), or (`edited` or `alternated`, "", 1.0) of what stands there."""
    round_, square, opened = _Open(), _Open(), 0
    for token in _TOKEN.finditer(text):
        bracket, whole = token["bracket"], token[0]
        if bracket in ("(", "["):
            (round_ if bracket == "(" else square).open(factors[opened], opened)
            opened += 1
            continue
        in_square = square.places[-1] > round_.places[-1]
        if (bracket == ")" or token["weight"] is not None) and round_.close():
            continue
        if bracket == "]" and square.close():
            continue
        if token["when"] and square.close():
            if in_square:
                yield "edited", "", 1.0
                continue
            whole = whole[:-1]
        if token["bar"] and in_square:
            yield "alternated", "", 1.0
        weight = round_.products[-1] * square.products[-1]
        yield "text", token["escaped"] or ("" if whole == "\\" else whole), weight


class _Parts:
    """Gathers text of equal weight, and parts it at breaks."""

    def __init__(self) -> None:
        self.unsupported = ""
        self._parts: list[list[tuple[list[str], float]]] = [[]]

    def refuse(self, kind: str) -> None:
        """Take note of what cannot be drawn; the first of it is told."""
        self.unsupported = self.unsupported or (_EDITED if kind == "edited" else _ALTERNATED)

    def add(self, text: str, weight: float) -> None:
        """Take text of one weight, breaks in it."""
        if "AND" in text and _AND.search(text):
            self.unsupported = self.unsupported or _COMPOSED
        pieces = _BREAK.split(text) if "BREAK" in text else [text]
        for place, piece in enumerate(pieces):
            if place:
                self._parts.append([])
                piece = piece.lstrip()
            self._join(piece.rstrip() if place < len(pieces) - 1 else piece, weight)

    def _join(self, text: str, weight: float) -> None:
        part = self._parts[-1]
        if part and part[-1][1] == weight:
            part[-1][0].append(text)
        elif text:
            part.append(([text], weight))

    def found(self) -> tuple[tuple[Segment, ...], ...]:
        """The segments of every part."""
        return tuple(
            tuple(Segment("".join(texts), weight) for texts, weight in part) for part in self._parts
        )


def _format(segment: Segment) -> str:
    if segment.weight == 1.0:
        return escape(segment.text)
    return f"({escape(segment.text)}:{Decimal(repr(segment.weight)):f})"

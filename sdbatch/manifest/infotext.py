"""A1111's infotext: what a picture was asked for, as text that people and programs read.

    a red fox
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x512

The prompt may have several lines, and so may the negative prompt; values with commas, colons
or quotes are JSON texts. What this form cannot hold (a prompt that ends in a blank, or has a
line `Negative prompt:`) is written once more as a value, so that reading gives back every
character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

NEGATIVE = "Negative prompt:"
DISTILLED = "Distilled CFG Scale"
"""Forge's name for guidance that a model is told as a number; beside it `CFG scale` is true CFG."""

MICRO = "Micro conditioning"
"""Our name for the sizes that SDXL is told; A1111 has none, it tells the picture's own."""

EXACT = {"Exact prompt": "prompt", "Exact negative prompt": "negative_prompt"}
"""Values that stand in for a text which lines cannot hold."""
MIN_PAIRS = 3
"""A last line of so many values is one even if it does not begin with `Steps:`."""
_STEPS = re.compile(r"\s*Steps: ?\d", re.ASCII)
_PLAIN = re.compile(r"[^,:\n\r\"\[\]{}]+")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Infotext:
    """An infotext taken apart.

    Attributes:
        params: Name to value, both as written but for quotes, in order.
        rest: What is neither prompt nor a named value; empty in all that is well formed.
    """

    prompt: str
    negative_prompt: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    rest: str = ""


def parse(text: str) -> Infotext:
    """Take an infotext apart; any text is one, if only a prompt."""
    lines = text.strip().split("\n")
    last = _values_line(lines)
    params: dict[str, str] = {}
    rest: list[str] = []
    for line in lines[last:]:
        for name, value in _pairs(line):
            if name:
                params[_fresh(name, params)] = value
            else:
                rest.append(value)
    prompt: list[str] = []
    negative: list[str] | None = None
    for line in (line.strip() for line in lines[:last]):
        if line.startswith(NEGATIVE):
            negative = [*(negative or []), line.removeprefix(NEGATIVE).strip()]
        else:
            (prompt if negative is None else negative).append(line)
    texts = {"prompt": "\n".join(prompt), "negative_prompt": "\n".join(negative or [])}
    texts |= {EXACT[name]: value for name, value in params.items() if name in EXACT}
    named = {name: value for name, value in params.items() if name not in EXACT}
    return Infotext(**texts, params=named, rest=", ".join(rest))


def format(info: Infotext) -> str:  # the counterpart of parse
    """Write an infotext; `parse` gives it back without its `rest`.

    Args:
        info: Its `params` must begin with `Steps`, which is what readers look for.

    Raises:
        ValueError: They do not.
    """
    if next(iter(info.params), "") != "Steps" or not info.params["Steps"].isdecimal():
        raise ValueError("the values of an infotext begin with Steps and a number")
    written = _written(info, {})
    read = parse(written)
    texts = {name: getattr(info, key) for name, key in EXACT.items()}
    lost = {name: text for name, text in texts.items() if getattr(read, EXACT[name]) != text}
    return _written(info, lost) if lost else written


def _written(info: Infotext, exact: Mapping[str, str]) -> str:
    lines = [info.prompt]
    if info.negative_prompt:
        lines.append(f"{NEGATIVE} {info.negative_prompt}")
    values = {**info.params, **exact}
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in values.items()))
    return "\n".join(lines)


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value) and value == value.strip():
        return value
    return json.dumps(value, ensure_ascii=False)


def _values_line(lines: list[str]) -> int:
    """Index of the line that holds the values; their number when there is none."""
    for index in range(len(lines) - 1, -1, -1):
        if _STEPS.match(lines[index]):
            return index
    pairs = list(_pairs(lines[-1]))
    named = len(pairs) >= MIN_PAIRS and all(name for name, _ in pairs)
    return len(lines) - 1 if named else len(lines)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """(name, value) of a line; what has no name comes with an empty one."""
    at = 0
    while at < len(line):
        if line[at] in ", ":
            at += 1
            continue
        comma, colon = line.find(",", at), line.find(":", at)
        end = len(line) if comma < 0 else comma
        if colon < 0 or colon > end:
            yield "", line[at:end].strip()
            at = end + 1
            continue
        name = line[at:colon].strip()
        value, at = _value(line, colon + 1)
        yield name, value


def _value(line: str, at: int) -> tuple[str, int]:
    """The value that begins here, and where the next pair does."""
    while at < len(line) and line[at] == " ":
        at += 1
    if at < len(line) and line[at] in '"[{':
        try:
            value, end = _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            pass
        else:
            if end == len(line) or line[end] == ",":
                return (value if isinstance(value, str) else line[at:end]), end + 1
    comma = line.find(",", at)
    end = len(line) if comma < 0 else comma
    return line[at:end].strip(), end + 1


def _fresh(name: str, taken: Mapping[str, str]) -> str:
    wanted, count = name, 1
    while wanted in taken:
        count += 1
        wanted = f"{name} {count}"
    return wanted

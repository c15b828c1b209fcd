"""Prompt lists of benchmarks: PartiPrompts, DrawBench, GenEval, T2I-CompBench."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sdbatch.errors import ManifestError
from sdbatch.manifest.importers.row import Row, as_text, keep
from sdbatch.manifest.importers.text_lines import MAX_LINE_CHARACTERS, numbered_lines

_COMPBENCH = re.compile(r"(?P<category>.+?)_(?P<split>(?:train|val)(?:_[a-z]+)?)")


def partiprompts_rows(path: str) -> Iterator[Row]:
    """Rows of PartiPrompts.tsv: quotes are part of a prompt unless the whole field needs them.

    Raises:
        ManifestError: There is no column `Prompt`, or a line has more fields than the first.
    """
    names: list[str] = []
    for number, line in numbered_lines(path):
        fields = [_unquoted(text) for text in line.split("\t")]
        if not names:
            names = fields
            _demand(path, names, "Prompt")
        elif line.strip():
            yield _row(f"{path}, line {number}", names, fields, "Prompt")


def drawbench_rows(path: str) -> Iterator[Row]:
    """Rows of DrawBench's CSV, whose prompts stand under `Prompts`, in copies under `prompts`.

    Raises:
        ManifestError: It is no CSV, or there is no such column.
    """
    names: list[str] = []
    prompts = "Prompts"
    lines = (f"{line}\n" for _, line in numbered_lines(path))
    csv.field_size_limit(MAX_LINE_CHARACTERS)
    reader = csv.reader(lines, strict=True)
    try:
        for fields in reader:
            if not names:
                names = fields
                prompts = next((name for name in names if name.lower() == "prompts"), prompts)
                _demand(path, names, prompts)
            elif fields:
                yield _row(f"{path}, line {reader.line_num}", names, fields, prompts)
    except csv.Error as error:
        reason = f"line {reader.line_num} is no CSV: {error}"
        raise ManifestError(path, -1, "", "", reason) from error


def geneval_rows(path: str) -> Iterator[Row]:
    """Rows of GenEval's JSON lines; what is not `prompt` becomes columns.

    Raises:
        ManifestError: A line is no JSON object with a text `prompt`.
    """
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            value: Any = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
            reason = 'is no JSON object with a text such as {"prompt": "a bench"}'
            raise ManifestError(f"{path}, line {number}", -1, "", "", reason)
        row: Row = {"prompt": as_text(value.pop("prompt"))}
        for name, rest in value.items():
            keep(row, name, rest)
        yield row


def compbench_rows(path: str) -> Iterator[Row]:
    """Rows of T2I-CompBench: a prompt a line; `color_val_unseen.txt` says category and split.

    Raises:
        ManifestError: The file cannot be read or is no UTF-8 text.
    """
    found = _COMPBENCH.fullmatch(Path(path).stem)
    said: Row = {"category": as_text(Path(path).stem)}
    if found:
        said = {"category": as_text(found["category"]), "split": as_text(found["split"])}
    for _, line in numbered_lines(path):
        if line.strip():
            yield {"prompt": as_text(line.strip()), **said}


def _row(place: str, names: list[str], fields: list[str], prompt: str) -> Row:
    if len(fields) > len(names):
        reason = f"has {len(fields)} fields, the first line names {len(names)}"
        raise ManifestError(place, -1, "", "", reason)
    row: Row = {"prompt": as_text(fields[names.index(prompt)] if fields else "")} \
        if len(fields) > names.index(prompt) else {}  # fmt: skip
    if not row:
        raise ManifestError(place, -1, prompt, "", "has no prompt")
    for name, value in zip(names, fields, strict=False):
        if name != prompt and value:
            keep(row, name, value)
    return row


def _demand(path: str, names: list[str], wanted: str) -> None:
    if wanted not in names:
        shown = ", ".join(names[:8])[:120]
        raise ManifestError(path, -1, "", "", f"no column '{wanted}' among {shown}")


def _unquoted(field: str) -> str:
    """A field without its quotes where they are a writer's: those inside are all doubled."""
    inner = field[1:-1]
    if len(field) >= 2 and field[0] == field[-1] == '"' and '""' in inner:
        plain = inner.replace('""', "\0")
        return plain.replace("\0", '"') if '"' not in plain else field
    return field

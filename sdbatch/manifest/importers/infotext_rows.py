"""Infotexts to rows: A1111's names to ours, everything else beside them as `a1111_...`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdbatch.manifest import infotext
from sdbatch.manifest.importers.row import Row, as_text, keep, put, put_seed, size, whole
from sdbatch.manifest.importers.text_lines import numbered_lines
from sdbatch.manifest.prompt_syntax import A1111, PLAIN

PREFIX = "a1111_"
NAMES = {
    "Steps": "num_inference_steps",
    "CFG scale": "guidance_scale",
    infotext.DISTILLED: "guidance_scale",
    "Schedule type": "schedule_type",
    "Scheduler config": "scheduler_config",
    infotext.MICRO: "micro_conditioning",
}
SYNTAX = "Prompt syntax"
"""Names the syntax of prompts where it is not A1111's."""
CLASS = "Scheduler"
"""Names diffusers' class where A1111's words for it say something else."""
_AFTER = re.compile(r"(?:Negative )?Template: ")
"""Lines that the dynamic prompts extension writes below the values."""
_STEPS = re.compile(r"\s*Steps: ?\d", re.ASCII)


def infotext_row(text: str) -> Row:
    """The row that an infotext asks for.

    `Model`, hashes and what else only describes the picture are kept as `a1111_...`.
    """
    info = infotext.parse(text)
    row: Row = {"prompt": as_text(info.prompt)}
    if info.negative_prompt:
        row["negative_prompt"] = as_text(info.negative_prompt)
    syntax = info.params.get(SYNTAX, A1111)
    row["prompt_syntax"] = syntax if syntax in (PLAIN, A1111) else A1111
    named = CLASS if info.params.get(CLASS) else "Sampler"
    for name, value in info.params.items():
        if name == named:
            row["scheduler"] = as_text(value)
        elif name == "CFG scale" and infotext.DISTILLED in info.params:
            put(row, "true_cfg_scale", value, name, PREFIX)
        else:
            _put(row, name, value)
    if info.rest:
        keep(row, "rest", info.rest, PREFIX)
    return row


def _put(row: Row, name: str, value: str) -> None:
    if name in NAMES:
        put(row, NAMES[name], value, name, PREFIX)
    elif name == "Seed":
        put_seed(row, value, name, PREFIX)
    elif name == "Size" and size(value):
        row["width"], row["height"] = size(value) or (0, 0)
    elif name == "Clip skip" and (whole(value) or 0) >= 1:
        skipped = (whole(value) or 1) - 1  # A1111 counts from 1, which skips nothing
        if skipped:
            row["clip_skip"] = skipped
    elif name != SYNTAX:
        keep(row, name, value, PREFIX)


def infotext_rows(path: str) -> Iterator[Row]:
    """Rows of a text file of infotexts, one after the other; a line of values ends each.

    Raises:
        ManifestError: The file cannot be read or is no UTF-8 text.
    """
    block: list[str] = []
    ended = False
    for _, line in numbered_lines(path):
        if ended and not _AFTER.match(line):
            yield infotext_row("\n".join(block))
            block, ended = [], False
        if block or line.strip():
            block.append(line)
            ended = ended or _STEPS.match(line) is not None
    if any(line.strip() for line in block):
        yield infotext_row("\n".join(block))

"""A1111's "prompts from file": a line is a prompt, or options: `--prompt "a fox" --steps 9`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sdbatch.errors import ManifestError
from sdbatch.manifest.importers.row import Row, as_text, keep, put, put_seed, whole
from sdbatch.manifest.importers.text_lines import numbered_lines
from sdbatch.manifest.prompt_syntax import A1111

PREFIX = "a1111_"
NAMES = {
    "negative_prompt": "negative_prompt",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "width": "width",
    "height": "height",
    "sampler_name": "scheduler",
    "scheduler": "schedule_type",
}


def prompts_from_file_rows(path: str) -> Iterator[Row]:
    """Rows of such a file; blank lines are passed over.

    Raises:
        ManifestError: An option has no value, or a quote is never closed.
    """
    for number, line in numbered_lines(path):
        if line.strip():
            yield _row(line.strip(), f"{path}, line {number}")


def _row(line: str, place: str) -> Row:
    if not line.startswith("--"):
        return {"prompt": as_text(line), "prompt_syntax": A1111}
    try:
        words = shlex.split(line)
    except ValueError as error:
        reason = f"{str(error).lower()}, close the quote or escape it"
        raise ManifestError(place, -1, "", "", reason) from error
    row: Row = {"prompt": "", "prompt_syntax": A1111}
    counts: dict[str, int] = {}
    for at in range(0, len(words), 2):
        name = words[at].removeprefix("--")
        if not words[at].startswith("--") or at + 1 == len(words):
            reason = f'{words[at]!r}: write options with their values, --prompt "a fox" --steps 20'
            raise ManifestError(place, -1, "", "", reason)
        _put(row, counts, name, words[at + 1])
    pictures = counts.get("batch_size", 1) * counts.get("n_iter", 1)
    if pictures != 1:
        put(row, "num_images_per_prompt", pictures, "num_images", PREFIX)
    return row


def _put(row: Row, counts: dict[str, int], name: str, value: str) -> None:
    if name == "prompt":
        row["prompt"] = as_text(value)
    elif name == "seed":
        put_seed(row, value, name, PREFIX)
    elif name in NAMES:
        put(row, NAMES[name], value, name, PREFIX)
    elif name in ("batch_size", "n_iter") and (whole(value) or 0) > 0:
        counts[name] = whole(value) or 1
    else:
        keep(row, name, value, PREFIX)

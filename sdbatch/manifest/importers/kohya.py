"""Prompt lines of kohya's scripts: `a red fox --n blurry --w 512 --h 768 --d 7 --l 7.5 --s 28`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdbatch.manifest.importers.row import Row, as_text, keep, put, put_seed
from sdbatch.manifest.importers.text_lines import numbered_lines
from sdbatch.manifest.prompt_syntax import A1111

PREFIX = "kohya_"
NAMES = {
    "n": "negative_prompt",
    "w": "width",
    "h": "height",
    "l": "guidance_scale",
    "s": "num_inference_steps",
    "ss": "scheduler",
    "t": "strength",
}
_OPTION = re.compile(r"\s--(?=[A-Za-z])")


def kohya_rows(path: str) -> Iterator[Row]:
    """Rows of such a file; blank lines and lines that begin with `#` are passed over.

    Raises:
        ManifestError: The file cannot be read or is no UTF-8 text.
    """
    for _, line in numbered_lines(path):
        if line.strip() and not line.lstrip().startswith("#"):
            yield kohya_row(line)


def kohya_row(line: str) -> Row:
    """The row of one line; options that have no column of ours become `kohya_...`."""
    prompt, *options = _OPTION.split(f" {line.strip()}")
    row: Row = {"prompt": as_text(prompt.strip()), "prompt_syntax": A1111}
    for option in options:
        name, _, value = option.strip().partition(" ")
        if name == "d":
            put_seed(row, value.strip(), name, PREFIX)
        elif name in NAMES:
            put(row, NAMES[name], value.strip(), name, PREFIX)
        else:
            keep(row, name, value.strip(), PREFIX)
    return row

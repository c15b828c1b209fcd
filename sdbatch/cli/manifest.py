"""`sdbatch manifest`: check, look at, rearrange and compare manifests.

Each command lives in `cli/manifest_<name>.py` and is imported only to run it.
"""

from __future__ import annotations

import click

from sdbatch.cli.lazy import LazyGroup

COMMANDS = {
    "build": ("Make", "Expand templates with choices and wildcards to rows."),
    "import": ("Make", "Read prompts of other programs, also out of pictures."),
    "check": ("Check", "Hold every row against a model; nothing is drawn."),
    "show": ("Look", "The first rows as they are read, or the columns."),
    "stats": ("Look", "Histograms of settings and lengths; prompts that are nearly equal."),
    "diff": ("Look", "What is new, gone and changed against a manifest or a dataset."),
    "shuffle": ("Make", "The rows in random order; a seed gives one order."),
    "split": ("Make", "Consecutive parts, or random shares such as train and val."),
    "schema": ("Look", "The columns sdbatch reads, as Arrow and JSON Schema, with their aliases."),
    "schedulers": ("Look", "What rows can be drawn with, and how each is drawn."),
}
"""Command to (section, one line); a new one is one line here and one module."""


@click.command(
    cls=LazyGroup,
    held=COMMANDS,
    prefix="sdbatch.cli.manifest_",
    epilog="Exit codes: 0 done, 2 input.",
    no_args_is_help=True,
)
def command() -> None:
    """Work with manifests; needs neither a model nor a GPU."""

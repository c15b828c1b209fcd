"""`sdbatch models`: fetch models before they are needed, see which lie here and where.

Each command lives in `cli/models_<name>.py` and is imported only to run it.
"""

from __future__ import annotations

import click

from sdbatch.cli.lazy import LazyGroup

COMMANDS = {
    "fetch": ("Models", "Bring a model to this machine, or bring it up to date."),
    "list": ("Models", "Every model that lies here, with size, revision and last use."),
    "where": ("Models", "The folder of a model that lies here; exit code 2 when none does."),
}
"""Command to (section, one line); a new one is one line here and one module."""


@click.command(
    cls=LazyGroup,
    held=COMMANDS,
    prefix="sdbatch.cli.models_",
    epilog="Exit codes: 0 done, 2 not to be had, or not here.",
    no_args_is_help=True,
)
def command() -> None:
    """Fetch models and find them; HF_HOME says where those of the Hub lie."""

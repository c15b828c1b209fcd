"""What `retry` and `repair` have in common on the command line: their flags and their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from sdbatch.cli.answer import answer
from sdbatch.cli.options import JOB, MODEL, OPTIONS, RENDER_OPTIONS, given
from sdbatch.cli.progress import log_format_option, reporter
from sdbatch.engine.rework_summary import RepairSummary, RetrySummary
from sdbatch.engine.session import Reporter
from sdbatch.errors import SdbatchError

F = TypeVar("F", bound=Callable[..., Any])
SHARED = frozenset(
    [
        *("job", "settings", "engine", "workers", "address", "wait_for_workers", "speculate"),
        *("models_dir", "allow_failed", "stop_after", "drain", "gc", "dashboard"),
    ]
)
"""Flags of `render` that say how a call runs and nothing of its pictures."""

SHOWN_BY = {"as_json", "progress", "log_format"}  # parameters of the display


def rework_options(command: F) -> F:
    """Add the flags of a call on a dataset whose plan stands."""
    command = click.option("--json", "as_json", is_flag=True, help="Print a summary for machines.")(
        command
    )
    command = log_format_option(command)
    command = click.option(
        "--progress",
        type=click.Choice(["auto", "rich", "plain", "none"]),
        default="auto",
        help="A bar on a terminal, one line every few seconds elsewhere.",
    )(command)
    for option in reversed((*OPTIONS, *RENDER_OPTIONS)):
        if _name_of(option) in SHARED:
            command = option(command)
    command = click.option("--run", metavar="RUN", help="An appended run.  [default: main]", **JOB)(
        command
    )
    return click.option(
        "--model", metavar="NAME_OR_PATH", help="Where the planned weights lie now.", **MODEL
    )(command)


def run_rework(
    ctx: click.Context,
    call: Callable[[Reporter, dict[str, Any]], RetrySummary | RepairSummary],
    progress: str,
    log_format: str,
    as_json: bool,
) -> int:
    """Call the door with what was written, and show what it came to."""
    options = {name: value for name, value in given(ctx).items() if name not in SHOWN_BY}
    try:
        with reporter(progress, log_format) as report:
            summary = call(report, options)
    except SdbatchError as error:
        if as_json:  # a scheduler reads stdout, whatever the end
            click.echo(answer({"exit_code": error.exit_code, "reason": str(error)}))
        raise
    if as_json:
        click.echo(answer(summary.to_dict()))
    return summary.exit_code


def _name_of(option: Callable[[Any], Any]) -> str:
    """What a decorator of click calls its parameter."""

    def nothing() -> None:
        """Carry the parameter."""

    option(nothing)
    name: str = nothing.__click_params__[0].name  # type: ignore[attr-defined]  # click's own
    return name

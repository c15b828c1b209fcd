"""`sdbatch render`: draw a manifest into a dataset, or go on with one."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from sdbatch import api
from sdbatch.cli.answer import answer
from sdbatch.cli.exit_codes import EXIT_CODES
from sdbatch.cli.options import (
    GroupedCommand,
    given,
    prompts_on_stdin,
    render_options,
    run_options,
)
from sdbatch.cli.progress import log_format_option, reporter
from sdbatch.errors import SdbatchError

SHOWN_BY = {"as_json", "progress", "log_format", "yes"}  # parameters of the display, not of the run


@click.command(cls=GroupedCommand, epilog=EXIT_CODES)
@run_options
@render_options
@click.option(
    "--progress",
    type=click.Choice(["auto", "rich", "plain", "none"]),
    default="auto",
    help="A bar on a terminal, one line every few seconds elsewhere.",
)
@log_format_option
@click.option("--json", "as_json", is_flag=True, help="Print a summary for machines on stdout.")
@click.option("--yes", is_flag=True, help="Begin a run of more than 12 hours without asking.")
@click.pass_context
def command(
    ctx: click.Context, /, progress: str, log_format: str, as_json: bool, yes: bool, **_: Any
) -> int:
    """Draw MANIFEST into the dataset OUT; the same command on the same OUT resumes.

    MANIFEST is a Parquet file, folder or glob with a column `prompt` (local or any fsspec
    URL), or `-` for one prompt a line on standard input; with --prompt it is left out.
    """
    options = {name: value for name, value in given(ctx).items() if name not in SHOWN_BY}
    manifest, out = api.positionals(
        options.pop("manifest", None), options.pop("out", None), options.get("prompt", ())
    )
    if manifest == "-":
        manifest, options["prompt"] = None, prompts_on_stdin()
    on_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    confirm = partial(click.confirm, err=True) if on_terminal and not yes else None
    try:
        with reporter(progress, log_format) as report:
            summary = api.render(manifest, out, report=report, confirm=confirm, **options)
    except SdbatchError as error:
        if as_json:  # a scheduler reads stdout, whatever the end
            click.echo(answer({"exit_code": error.exit_code, "reason": str(error)}))
        raise
    if as_json:
        click.echo(answer(summary.to_dict()))
    return summary.exit_code

"""`sdbatch retry`: draw the failed pictures of a finished dataset again."""

from __future__ import annotations

from typing import Any

import click

from sdbatch import api
from sdbatch.cli.exit_codes import REWORK_EXIT_CODES
from sdbatch.cli.options import GroupedCommand
from sdbatch.cli.rework import rework_options, run_rework
from sdbatch.engine.rework_summary import RetrySummary
from sdbatch.engine.session import Reporter

EPILOG = f"""\
\b
Examples:
  sdbatch retry out/night                                 everything that failed
  sdbatch retry out/night --error-type DeviceMemoryError  only what failed so
  sdbatch retry out/night --error-type BlackImageError --reseed 1
{REWORK_EXIT_CODES}"""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("out")
@click.option(
    "--only",
    type=click.Choice(["failed", "filtered"]),
    default="failed",
    show_default=True,
    help="Which pictures; filtered ones need --reseed.",
)
@click.option(
    "--error-type", multiple=True, metavar="NAME", help="Only what failed so; may be repeated."
)
@click.option("--reseed", type=int, metavar="N", help="Draw from other seeds, which follow from N.")
@rework_options
@click.pass_context
def command(ctx: click.Context, /, progress: str, log_format: str, as_json: bool, **_: Any) -> int:
    """Draw the failed pictures of the dataset OUT again; all others keep their bytes.

    The plan of OUT says everything: the same rows, seeds and weights, so what is drawn well
    the second time is the picture that was planned. The same command goes on after a stop.
    An unfinished retry or repair, whoever began it, is finished first.
    """

    def call(report: Reporter, options: dict[str, Any]) -> RetrySummary:
        return api.retry(options.pop("out"), report=report, **options)

    return run_rework(ctx, call, progress, log_format, as_json)

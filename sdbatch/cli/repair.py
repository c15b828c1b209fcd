"""`sdbatch repair`: make damaged shards of a finished dataset whole again."""

from __future__ import annotations

from typing import Any

import click

from sdbatch import api
from sdbatch.cli.exit_codes import REWORK_EXIT_CODES
from sdbatch.cli.options import GroupedCommand
from sdbatch.cli.rework import rework_options, run_rework
from sdbatch.engine.rework_summary import RepairSummary
from sdbatch.engine.session import Reporter

EPILOG = f"""\
\b
Examples:
  sdbatch repair out/night            reads every byte and mends what rotted
  sdbatch repair out/night --level 1  only what is gone or cut short
{REWORK_EXIT_CODES}"""


@click.command(cls=GroupedCommand, epilog=EPILOG)
@click.argument("out")
@click.option(
    "--level",
    type=click.IntRange(1, 3),
    default=2,
    show_default=True,
    help="1 sizes, 2 every byte, 3 every row and picture.",
)
@rework_options
@click.pass_context
def command(ctx: click.Context, /, progress: str, log_format: str, as_json: bool, **_: Any) -> int:
    """Make damaged shards of the dataset OUT whole again; all others keep their bytes.

    What its hashes prove intact is taken over bit for bit, the rest is drawn again from the
    same seeds. The same command goes on after a stop. An unfinished retry or repair, whoever
    began it, is finished first.
    """

    def call(report: Reporter, options: dict[str, Any]) -> RepairSummary:
        return api.repair(options.pop("out"), report=report, **options)

    return run_rework(ctx, call, progress, log_format, as_json)

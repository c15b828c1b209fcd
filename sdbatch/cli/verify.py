"""`sdbatch verify`: is the dataset what its records say?"""

from __future__ import annotations

import json

import click

from sdbatch.api import open_dataset


@click.command(epilog="Exit codes: 0 sound, 3 damaged, 75 unfinished.")
@click.argument("out")
@click.option(
    "--level",
    type=click.IntRange(0, 3),
    default=1,
    show_default=True,
    help="0 records, 1 sizes, 2 every byte, 3 every row and picture.",
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the shards whose files levels 2 and 3 read.",
)
@click.option("--run", metavar="RUN", help="Only this run.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the report for machines.")
def command(out: str, level: int, sample: float, run: str | None, as_json: bool) -> int:
    """Check the dataset OUT against its plan and records."""
    report = open_dataset(out).verify(level, sample, run=run)
    click.echo(json.dumps(report.to_json()) if as_json else report.describe())
    return report.exit_code

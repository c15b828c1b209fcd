"""`sdbatch replay`: draw pictures of a dataset again and compare them with the stored ones."""

from __future__ import annotations

import json

import click

from sdbatch.api import open_dataset
from sdbatch.cli.options import MODELS_DIR_HELP

EPILOG = """\
\b
Examples:
  sdbatch replay out/night 000000012_000            is it the same picture here?
  sdbatch replay out/night 12 13 14 --out compare   rows by number, with pictures to look at
  sdbatch replay out/night 12 --model ./old-model   the weights lie elsewhere now

Exit codes: 0 all equal, 4 a picture differs, 2 no such key or another model.
"""


@click.command(epilog=EPILOG)
@click.argument("dataset", metavar="OUT")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--model", metavar="NAME_OR_PATH", help="Where the planned weights lie now.")
@click.option("--models-dir", metavar="DIR", default="", help=MODELS_DIR_HELP)
@click.option(
    "--out", metavar="DIR", help="Write both pictures there, and their difference beside them."
)
@click.option("--run", metavar="RUN", help="The run of row numbers; keys say it themselves.")
@click.option("--json", "as_json", is_flag=True, help="Print the report for machines.")
def command(
    dataset: str,
    keys: tuple[str, ...],
    model: str | None,
    models_dir: str,
    out: str | None,
    run: str | None,
    as_json: bool,
) -> int:
    """Draw the pictures KEY... of the dataset OUT again, from the dataset alone.

    A KEY is that of the column `key`, or the number of a row, for all its pictures. Rows
    that failed are tried again. What a picture was drawn on is compared as well.
    """
    report = open_dataset(dataset).replay(
        keys, model=model, models_dir=models_dir, out=out, run=run
    )
    click.echo(json.dumps(report.to_dict()) if as_json else report.describe())
    return report.exit_code

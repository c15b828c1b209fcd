"""`sdbatch report`: one page about a dataset, to look at and to pass on."""

from __future__ import annotations

import click

from sdbatch import api
from sdbatch.cli.answer import answer
from sdbatch.credentials import redact
from sdbatch.report.make import MAX_MB, MAX_PICTURES

EXAMPLES = """\
\b
Examples:
  sdbatch report out/night
  sdbatch report s3://bucket/night --out night.html --max-pictures 2000 --max-mb 60

Exit codes: 0, or 2 when OUT holds no run, 3 storage.
"""


@click.command(epilog=EXAMPLES)
@click.argument("dataset", metavar="OUT")
@click.option(
    "--out", metavar="FILE", default="report.html", show_default=True, help="Where the page goes."
)
@click.option(
    "--max-pictures",
    type=int,
    metavar="N",
    default=MAX_PICTURES,
    show_default=True,
    help="Most pictures in the gallery; of more, a sample spread evenly.",
)
@click.option(
    "--max-mb",
    type=float,
    metavar="N",
    default=MAX_MB,
    show_default=True,
    help="Largest page; it shows fewer pictures to stay below.",
)
@click.option("--run", metavar="RUN", help="Only pictures of this run.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print what was made for machines.")
def command(
    dataset: str, out: str, max_pictures: int, max_mb: float, run: str | None, as_json: bool
) -> int:
    """Write one page about the dataset OUT: pictures, numbers, failures and times.

    The page is one file that loads nothing from anywhere: open it in a browser, send it by
    mail. It is made from what is committed, during a run or after it.
    """
    made = api.report(dataset, out=out, max_pictures=max_pictures, max_mb=max_mb, run=run)
    click.echo(answer(made.to_dict()) if as_json else redact(made.describe()))
    return 0

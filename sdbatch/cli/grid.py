"""`sdbatch grid`: pictures of a dataset side by side, over two of its columns."""

from __future__ import annotations

import click

from sdbatch import api
from sdbatch.cli.answer import answer
from sdbatch.credentials import redact

EXAMPLES = """\
\b
Examples:
  sdbatch grid out/night --x guidance_scale --y scheduler
  sdbatch grid out/night --x guidance_scale --y scheduler --page prompt --out grids/night.png

Exit codes: 0, or 2 when OUT holds no run or no such column, 3 storage.
"""


@click.command(epilog=EXAMPLES)
@click.argument("dataset", metavar="OUT")
@click.option("--x", required=True, metavar="COLUMN", help="Its values stand from left to right.")
@click.option("--y", metavar="COLUMN", help="Its values stand from top to bottom.")
@click.option(
    "--page", metavar="COLUMN", help="One page for each of its values: grid-1.png, grid-2.png, ..."
)
@click.option(
    "--out", metavar="FILE", default="grid.png", show_default=True, help="Where the grid goes."
)
@click.option("--run", metavar="RUN", help="Only pictures of this run.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print what was made for machines.")
def command(
    dataset: str,
    x: str,
    y: str | None,
    page: str | None,
    out: str,
    run: str | None,
    as_json: bool,
) -> int:
    """Draw a grid of the pictures of OUT, by any of its columns.

    A place without a picture is marked; of several pictures in one place the first by key is
    shown, and how many there are.
    """
    made = api.grid(dataset, x=x, y=y, page=page, out=out, run=run)
    click.echo(answer(made.to_dict()) if as_json else redact(made.describe()))
    return 0

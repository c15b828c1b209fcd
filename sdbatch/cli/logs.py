"""`sdbatch logs`: what the driver and the workers wrote down, from storage alone."""

from __future__ import annotations

import json

import click

from sdbatch.api import open_dataset
from sdbatch.engine.log_file import LEVELS

EXAMPLES = """\
\b
Examples:
  sdbatch logs out/night --level warning
  sdbatch logs out/night --shard 12 --session all
  sdbatch logs out/night --tail 100 --json

Exit codes: 0, or 2 when OUT holds no run or no such session, 3 storage.
"""


@click.command(epilog=EXAMPLES)
@click.argument("out")
@click.option("--shard", type=click.IntRange(0), metavar="N", help="Only lines about this shard.")
@click.option("--row", type=click.IntRange(0), metavar="N", help="Only about this manifest row.")
@click.option("--worker", metavar="NAME", help="Only lines of or about it: w0, w1, ... or driver.")
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="Only lines at least this serious; debug adds every lease.",
)
@click.option(
    "--session",
    metavar="latest|all|ID",
    default="latest",
    show_default=True,
    help="Which call of render; a run that was resumed has several.",
)
@click.option("--tail", type=click.IntRange(1), metavar="N", help="Only the last N of them.")
@click.option("--run", metavar="RUN", help="Of this run.  [default: that driven last]")
@click.option("--json", "as_json", is_flag=True, help="Print the lines as they were written.")
def command(
    out: str,
    shard: int | None,
    row: int | None,
    worker: str | None,
    level: str,
    session: str,
    tail: int | None,
    run: str | None,
    as_json: bool,
) -> int:
    """Show the logs of the run that writes OUT, oldest line first, in local time.

    Drivers and workers write every half minute, so the last lines may be that old. Works
    while the run goes on and when the cluster is gone.
    """
    empty = True
    for line in open_dataset(out).logs(
        shard=shard, row=row, worker=worker, level=level, session=session, tail=tail, run=run
    ):
        empty = False
        click.echo(json.dumps(line.to_json()) if as_json else line.describe())
    if empty and not as_json:
        click.echo(f"{out}: no log lines that fit")
    return 0

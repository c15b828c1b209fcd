"""`sdbatch push`: the dataset to the Hugging Face Hub."""

from __future__ import annotations

from typing import Any

import click

from sdbatch import api
from sdbatch.cli.answer import answer, refusals
from sdbatch.cli.options import given
from sdbatch.cli.progress import reporter
from sdbatch.credentials import redact
from sdbatch.transfer.push import SHARD_MB

EPILOG = """\
\b
Examples:
  sdbatch push out/night hf://datasets/me/pictures
  sdbatch push out/night hf://datasets/me/pictures@trial --where "not is_blank" --public
  sdbatch push s3://bucket/night hf://datasets/me/pictures --spool /scratch/push

Exit codes: 0 all is there, 2 input or not logged in, 3 the Hub, a store or the disk failed. After
3 or a kill the same command goes on.
"""


@click.command(epilog=EPILOG)
@click.argument("out")
@click.argument("url", metavar="hf://datasets/USER/NAME[@BRANCH]")
@click.option("--where", metavar="CONDITION", help="Only rows for which this holds.")
@click.option("--shuffle", is_flag=True, help="Write rows in random order.")
@click.option("--seed", type=int, metavar="N", help="Of that order.  [default: 0]")
@click.option("--split", metavar="NAME=SHARE,...", help="Shares, drawn by each picture's key.")
@click.option("--latest", is_flag=True, help="Of rows in several runs only those of the newest.")
@click.option(
    "--shard-mb",
    type=int,
    metavar="N",
    help=f"Most megabytes of pictures in a file.  [default: {SHARD_MB}]",
)
@click.option("--public", is_flag=True, help="Make a repository that everybody sees.")
@click.option(
    "--spool",
    metavar="DIR",
    help="Local folder for the files on their way, as large as the dataset.  [default: your cache]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary for machines.")
@click.pass_context
def command(ctx: click.Context, /, out: str, url: str, as_json: bool, **_: Any) -> int:
    """Bring the dataset OUT to the Hugging Face Hub as large Parquet files.

    The token is that of the hf command: HF_TOKEN, or what hf auth login stored. A repository
    that is not there is made, private. A second push sends only what is new.
    """
    options = {name: value for name, value in given(ctx).items() if name not in _OWN}
    with refusals(as_json), reporter("plain") as report:
        summary = api.push(out, url, report=report, **options)
    click.echo(answer(summary.to_json()) if as_json else redact(summary.describe()))
    return summary.exit_code


_OWN = ("out", "url", "as_json")

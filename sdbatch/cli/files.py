"""`sdbatch files`: which files the dataset consists of at this moment."""

from __future__ import annotations

import click

from sdbatch.audit.committed_files import committed_files
from sdbatch.cli.answer import answer
from sdbatch.storage.layout import KINDS
from sdbatch.storage.store import open_store

EPILOG = """\
\b
Examples:
  sdbatch files out/night                        read them while the run goes on
  sdbatch files s3://bucket/night --url --kind metadata
  sdbatch files out/night --json | jq .num_rows

Exit codes: 0, or 2 when OUT holds no run, 3 storage.
"""


@click.command(epilog=EPILOG)
@click.argument("out")
@click.option(
    "--kind",
    type=click.Choice([*KINDS, "all"]),
    default="data",
    show_default=True,
    help="Which folder of the dataset.",
)
@click.option("--run", metavar="NAME", help="Only this run of the dataset.  [default: all]")
@click.option("--url", is_flag=True, help="Print whole paths or URLs.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of facts for each file.")
def command(out: str, kind: str, run: str | None, url: bool, as_json: bool) -> int:
    """Print the files of the dataset OUT that are committed so far, one a line.

    The list is exact at every moment, also while the run goes on: files of attempts that lost
    are not on it.
    """
    for file in committed_files(open_store(out), None if kind == "all" else kind, run):
        place = file.url if url else file.key
        click.echo(answer(file.to_json()) if as_json else place)
    return 0

"""`sdbatch export`: the dataset, or a part of it, in another form."""

from __future__ import annotations

from typing import Any

import click

from sdbatch import api
from sdbatch.cli.answer import answer, refusals
from sdbatch.cli.options import given
from sdbatch.cli.progress import reporter
from sdbatch.credentials import redact
from sdbatch.transfer.terms import CAPTIONS, DEFAULT_SHARD_MB, FORMATS

EPILOG = """\
\b
Examples:
  sdbatch export out/night train/ --where "not is_blank" --split train=0.95,val=0.05
  sdbatch export out/night s3://bucket/wds --format webdataset --shuffle --shard-mb 512
  sdbatch export out/night pictures/ --format imagefolder --folder-by label --name "{id}_{seed}"
  sdbatch export out/night train/                  adds what is new since, by the same terms

Exit codes: 0 exported, 2 input or other terms than DEST holds, 3 storage or damaged, 5 another
export is at work on DEST. After 3, 5 or a kill the same command goes on.
"""


@click.command(epilog=EPILOG)
@click.argument("out")
@click.argument("dest")
@click.option("--format", type=click.Choice(FORMATS), help="Form of DEST.  [default: parquet]")
@click.option("--where", metavar="CONDITION", help="Only rows for which this holds.")
@click.option(
    "--folder-by", metavar="COLUMN", help="Its values are folders of pictures, safe as names."
)
@click.option(
    "--name", metavar="TEMPLATE", help="Names of pictures from columns.  [default: {key}]"
)
@click.option(
    "--captions", type=click.Choice(CAPTIONS), help="Write the prompt beside each picture."
)
@click.option("--shuffle", is_flag=True, help="Write rows in random order.")
@click.option("--seed", type=int, metavar="N", help="Of that order.  [default: 0]")
@click.option(
    "--split",
    metavar="NAME=SHARE,...",
    help="Shares, drawn by row: its pictures stay together and never change their split.",
)
@click.option(
    "--shard-mb",
    type=int,
    metavar="N",
    help=f"Most megabytes of pictures in a file.  [default: {DEFAULT_SHARD_MB}]",
)
@click.option("--latest", is_flag=True, help="Of rows in several runs only those of the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary for machines.")
@click.pass_context
def command(ctx: click.Context, /, out: str, dest: str, as_json: bool, **_: Any) -> int:
    """Write the pictures of the dataset OUT to DEST in another form.

    A second call adds only what is new, by the terms of the first. A call that was killed is
    gone on with by the same command: no row is lost and none stands twice.
    """
    options = {name: value for name, value in given(ctx).items() if name not in _OWN}
    with refusals(as_json), reporter("plain") as report:
        summary = api.export(out, dest, report=report, **options)
    click.echo(answer(summary.to_json()) if as_json else redact(summary.describe()))
    return summary.exit_code


_OWN = ("out", "dest", "as_json")

"""`sdbatch preview`: a few rows of a manifest, drawn before the run."""

from __future__ import annotations

from typing import Any

import click

from sdbatch import api
from sdbatch.cli.answer import answer
from sdbatch.cli.options import OPTIONS, GroupedCommand, given, prompts_on_stdin
from sdbatch.cli.progress import PlainReporter
from sdbatch.credentials import redact
from sdbatch.engine.preview import ROWS

EXAMPLES = """\
\b
Examples:
  sdbatch preview manifests/shapes.parquet
  sdbatch preview prompts.csv -n 25 --steps 12 --out look.png

Exit codes: 0, or 2 when the manifest cannot be drawn, 3 storage.
"""


def _all_but_out(command: Any) -> Any:
    """What `plan` takes, but for the output: there is none."""
    manifest, _out, *flags = OPTIONS
    for option in reversed([manifest, *flags]):
        command = option(command)
    return command


@click.command(cls=GroupedCommand, epilog=EXAMPLES)
@_all_but_out
@click.option(
    "-n",
    "--rows",
    type=int,
    default=ROWS,
    show_default=True,
    metavar="N",
    help="Rows to draw, spread over the manifest.",
)
@click.option(
    "--out", metavar="FILE", default="sheet.png", show_default=True, help="Where the sheet goes."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found for machines.")
@click.pass_context
def command(ctx: click.Context, /, rows: int, out: str, as_json: bool, **_: Any) -> int:
    """Draw a few rows of MANIFEST onto a sheet, and say what all of them will take.

    The rows are drawn in this process just as `render` with the same flags would draw them;
    nothing but the sheet is written.
    """
    mine = {"as_json", "rows", "out"}
    options = {name: value for name, value in given(ctx).items() if name not in mine}
    manifest = options.pop("manifest", None)
    if manifest == "-":
        manifest, options["prompt"] = None, prompts_on_stdin()
    made = api.preview(manifest, rows=rows, out=out, report=PlainReporter(), **options)
    click.echo(answer(made.to_dict()) if as_json else redact(made.describe()))
    return 0

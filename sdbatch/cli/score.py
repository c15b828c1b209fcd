"""`sdbatch score`: let models judge the pictures of a dataset that stands."""

from __future__ import annotations

from typing import Any

import click

from sdbatch import api
from sdbatch.cli.answer import answer
from sdbatch.cli.options import given
from sdbatch.cli.progress import reporter
from sdbatch.credentials import redact

EPILOG = """\
\b
Examples:
  sdbatch score out/night --score clip=openai/clip-vit-base-patch32
  sdbatch score out/night --score aesthetic=models/aesthetic --safety models/checker
  sdbatch export out/night best/ --where "clip_score > 0.25 and not nsfw"

Exit codes: 0 all scored, 2 input, or the name stands for another model, 3 storage or a damaged
picture, 75 stopped on the way. After 3, 75 or a kill the same command goes on.
"""


@click.command(epilog=EPILOG)
@click.argument("out")
@click.option(
    "--score",
    multiple=True,
    metavar="NAME=MODEL",
    help="Column NAME_score by a CLIP, SigLIP or aesthetic model; may be repeated.",
)
@click.option("--safety", metavar="MODEL|none", help="Columns nsfw and nsfw_score.")
@click.option(
    "--batch-size", type=int, metavar="N", help="Pictures at a time.  [default: by device]"
)
@click.option("--device", metavar="cpu|cuda", help="Where.  [default: a GPU, if there is one]")
@click.option("--run", metavar="RUN", help="Only the pictures of this run.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary for machines.")
@click.pass_context
def command(ctx: click.Context, /, out: str, as_json: bool, **_: Any) -> int:
    """Judge the pictures of the dataset OUT; its rows and pictures stay as they are.

    Scores go to scores/NAME/ by key; `sdbatch export` joins them. Only pictures without such a
    score are looked at, so after a retry or an appended run the same command adds what is new.
    """
    options = {name: value for name, value in given(ctx).items() if name not in ("out", "as_json")}
    with reporter("plain") as report:
        summary = api.score(out, report=report, **options)
    click.echo(answer(summary.to_dict()) if as_json else redact(summary.describe()))
    return summary.exit_code

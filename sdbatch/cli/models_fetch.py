"""`sdbatch models fetch`: bring a model to this machine before a run needs it."""

from __future__ import annotations

import click

from sdbatch import api
from sdbatch.cli.progress import log_format_option, reporter
from sdbatch.job import DTYPES

MODELS_DIR = click.option(
    "--models-dir",
    default="",
    metavar="FOLDER",
    help="Where bare names are looked up before SDBATCH_MODELS.",
)


@click.command(epilog="Exit codes: 0 it is here, 2 it cannot be had.")
@click.argument("name")
@click.option("--revision", default="", help="Branch, tag or commit.  [default: main]")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="auto",
    help="float16 and bfloat16 prefer weights in half precision, as a run with them does.",
)
@MODELS_DIR
@click.option(
    "--progress",
    type=click.Choice(["auto", "rich", "plain", "none"]),
    default="auto",
    help="A bar on a terminal, one line every few seconds elsewhere.",
)
@log_format_option
def command(
    name: str, revision: str, dtype: str, models_dir: str, progress: str, log_format: str
) -> int:
    """Fetch NAME: org/name or org/name/file.safetensors of the Hub, a short name, a bucket's URL.

    Of a model only what a renderer reads is fetched. A branch is asked what it stands for now.
    Prints the folder.
    """
    with reporter(progress, log_format) as report:
        facts = api.fetch_model(
            name, revision=revision, dtype=dtype, models_dir=models_dir, report=report
        )
    click.echo(facts.path)
    return 0

"""`sdbatch models where`: where a model lies."""

from __future__ import annotations

import click

from sdbatch import api
from sdbatch.cli.models_fetch import MODELS_DIR


@click.command(epilog="Exit codes: 0 it is here, 2 it is not.")
@click.argument("name")
@click.option("--revision", default="", help="Branch, tag or commit.  [default: main]")
@MODELS_DIR
def command(name: str, revision: str, models_dir: str) -> int:
    """Print the folder or file of NAME; nobody is asked, and what is not here is not fetched."""
    click.echo(api.where_model(name, revision=revision, models_dir=models_dir))
    return 0

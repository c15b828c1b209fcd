"""`sdbatch status`: how a run stands, from any machine, during and after it."""

from __future__ import annotations

import json

import click

from sdbatch.api import open_dataset
from sdbatch.audit.status import describe


@click.command(
    epilog="Exit codes: 0, or with --exit-code the run's own: 0, 3 damaged, 4 rows failed, 75."
)
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Print all fields for machines.")
@click.option("--exit-code", is_flag=True, help="Exit with the run's code.")
def command(out: str, as_json: bool, exit_code: bool) -> int:
    """Say how the run that writes OUT stands, from storage alone."""
    status = open_dataset(out).status()
    click.echo(json.dumps(status.to_json()) if as_json else describe(status))
    return status.exit_code if exit_code else 0

"""`sdbatch gc`: delete what a finished run left behind."""

from __future__ import annotations

import click

from sdbatch.api import open_dataset


@click.command(epilog="Exit codes: 0 done, 2 the run is not finished, 3 storage or damaged.")
@click.argument("out")
@click.option("--dry-run", is_flag=True, help="Name the files and leave them.")
@click.option("--run", metavar="RUN", help="Only of this run.  [default: all that are finished]")
def command(out: str, dry_run: bool, run: str | None) -> int:
    """Delete files under OUT that no record of its finished run names."""
    keys = open_dataset(out).collect_orphans(dry_run=dry_run, run=run)
    for key in keys:
        click.echo(key)
    click.echo(f"{len(keys)} files {'would be deleted' if dry_run else 'deleted'}", err=True)
    return 0

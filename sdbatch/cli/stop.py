"""`sdbatch stop`: ask the driver of a run to end in order, from any machine."""

from __future__ import annotations

import shlex
from dataclasses import asdict

import click

from sdbatch import api
from sdbatch.cli.answer import answer as answer_line


@click.command(epilog="Exit codes: 0 asked, or nobody is at work; 2 there is no run; 3 storage.")
@click.argument("out")
@click.option("--run", metavar="RUN", help="Only the driver of this run.")
@click.option("--json", "as_json", is_flag=True, help="Print all fields for machines.")
def command(out: str, run: str | None, as_json: bool) -> int:
    """Ask the driver that writes OUT to stop; what is in flight is stored first.

    The driver looks every 5 s, begins nothing new, stores what is in flight and exits 75. The
    same render command resumes. Works from every machine that sees OUT.
    """
    answer = api.stop(out, run=run)
    if as_json:
        click.echo(answer_line(asdict(answer)))
    elif answer.asked:
        click.echo(f"{answer.url}: asked {answer.driver} to stop")
        click.echo(f"last sign of life: {answer.seen_at or 'none yet'}")
        click.echo(f"see it end: {shlex.join(['sdbatch', 'status', out])}")
    else:
        click.echo(f"{answer.url}: no driver is at work, nothing to stop ({answer.driver} ended)")
    return 0

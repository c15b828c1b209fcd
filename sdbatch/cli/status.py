"""`sdbatch status`: how a run stands, from any machine, during and after it."""

from __future__ import annotations

import click

from sdbatch.api import open_dataset
from sdbatch.audit.status_text import describe
from sdbatch.cli.answer import answer
from sdbatch.cli.watch import watch
from sdbatch.credentials import redact

EXAMPLES = """\
\b
Examples:
  sdbatch status out/night
  sdbatch status out/night --json
  sdbatch status out/night --watch --exit-code

Exit codes: 0, or with --exit-code the run's own: 0 done, 3 damaged, 4 too many rows
failed, 75 unfinished, or that with which its driver ended early.
"""


@click.command(epilog=EXAMPLES)
@click.argument("out")
@click.option("--json", "as_json", is_flag=True, help="Print all fields for machines.")
@click.option("--run", metavar="RUN", help="Only this run.  [default: all]")
@click.option("--exit-code", is_flag=True, help="Exit with the run's code.")
@click.option(
    "--watch",
    "watching",
    is_flag=True,
    help="Go on until nobody works on the run; of several runs, on that driven last.",
)
def command(out: str, as_json: bool, exit_code: bool, run: str | None, watching: bool) -> int:
    """Say how the run that writes OUT stands, from storage alone.

    Works during a run, from any machine, and when the cluster is gone.
    """
    if watching:
        status = watch(open_dataset(out).watch(run=run), as_json)
        return status.exit_code if exit_code else 0
    status = open_dataset(out).status(run=run)
    click.echo(answer(status.to_json()) if as_json else redact(describe(status)))
    return status.exit_code if exit_code else 0

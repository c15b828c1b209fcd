"""`sdbatch errors`: what failed and why, in groups, from storage alone."""

from __future__ import annotations

import json

import click

from sdbatch.api import open_dataset

EXAMPLES = """\
\b
Examples:
  sdbatch errors out/night
  sdbatch errors out/night --type NonFiniteError --full
  sdbatch errors out/night --json

Exit codes: 0, or 2 when OUT holds no run or no such failure, 3 storage.
"""


@click.command(epilog=EXAMPLES)
@click.argument("out")
@click.option(
    "--type", "--error-type", "error_type", metavar="NAME", help="Only failures of this type."
)
@click.option("--full", is_flag=True, help="Whole messages, prompts and one whole traceback each.")
@click.option("--run", metavar="RUN", help="Only this run.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print all fields for machines.")
def command(out: str, error_type: str | None, full: bool, run: str | None, as_json: bool) -> int:
    """Group the failures of the run that writes OUT, most frequent first.

    Each group has a count, the reason, two of its rows, one traceback and what to do about
    it. During a run, failures of committed shards are known.
    """
    failures = open_dataset(out).failures(error_type=error_type, run=run)
    click.echo(json.dumps(failures.to_json()) if as_json else failures.describe(full=full))
    return 0

"""`sdbatch plan`: what a run would do, each setting with its source."""

from __future__ import annotations

import json
from typing import Any

import click

from sdbatch import api
from sdbatch.cli.options import GroupedCommand, given, prompts_on_stdin, run_options


@click.command(
    cls=GroupedCommand, epilog="Exit codes: 0 the run can begin, 2 it cannot: the reason is said."
)
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the plan for machines.")
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **_: Any) -> int:
    """Say what drawing MANIFEST into OUT would do; OUT may be left out. Draws nothing."""
    options = {name: value for name, value in given(ctx).items() if name != "as_json"}
    manifest, out = options.pop("manifest", None), options.pop("out", None)
    if options.get("prompt"):
        manifest, out = api.positionals(manifest, out, options["prompt"])
    if manifest == "-":
        manifest, options["prompt"] = None, prompts_on_stdin()
    report = api.plan(manifest, out, **options)
    click.echo(json.dumps(report.to_dict(), indent=2) if as_json else report.describe())
    return 0

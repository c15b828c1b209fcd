"""`sdbatch manifest schema`: what a manifest may hold."""

from __future__ import annotations

import json

import click

from sdbatch.manifest.later import LATER
from sdbatch.manifest.published import aliases_of, arrow_schema, json_schema


@click.command(epilog="Exit codes: 0 done.")
@click.option("--json", "as_json", is_flag=True, help="Print Arrow and JSON Schema for machines.")
def command(as_json: bool) -> int:
    """List the columns that sdbatch reads, their types and their other names.

    Every other column passes through to the dataset.
    """
    schema = arrow_schema()
    if as_json:
        arrow = [
            {"name": one.name, "type": str(one.type), "nullable": one.nullable} for one in schema
        ]
        click.echo(json.dumps({"arrow": arrow, "json_schema": json_schema()}, indent=1))
        return 0
    for one in schema:
        click.echo(f"{one.name:<22} {one.type!s:<8} {', '.join(aliases_of(one.name))}".rstrip())
    click.echo(f"\nknown, not drawn from in this version: {', '.join(sorted(LATER))}")
    return 0

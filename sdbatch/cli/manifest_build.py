"""`sdbatch manifest build`: templates to a manifest."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from typing import Any, Literal

import click

from sdbatch.errors import InputError

EPILOG = """\
\b
In a template:
  {a|b}  {3::a|b}        one of them, by weight
  {2$$a|b|c}             two of them; {1-3$$ and $$a|b|c} one to three, joined by ' and '
  {1..10}  {0..1..0.25}  numbers
  __animals__            a line of DIR/animals.txt; __animals/*__ of all files there
  ${x={a|b}} ${x} ${x}   chosen once a row
  \\{ \\| \\$ \\_            the character itself

\b
Exit codes: 0 done, 2 input, 3 storage.
"""


@click.command(epilog=EPILOG)
@click.argument("template", metavar="TEMPLATE|FILE")
@click.argument("output", metavar="OUT.parquet")
@click.option("--wildcards", metavar="DIR", help="Folder of .txt, .yaml and .json wildcard files.")
@click.option(
    "--mode",
    type=click.Choice(["grid", "random"]),
    default="grid",
    show_default=True,
    help="Every combination, or drawn ones.",
)
@click.option("--rows", type=int, metavar="N", help="How many rows to draw.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of drawn rows.")
@click.option("--limit", type=int, metavar="N", help="Most rows allowed; a grid: 1,000,000.")
@click.option("--set-column", multiple=True, metavar="NAME=VALUE", help="One value for all rows.")
def command(
    template: str,
    output: str,
    wildcards: str | None,
    mode: Literal["grid", "random"],
    rows: int | None,
    seed: int,
    limit: int | None,
    set_column: tuple[str, ...],
) -> int:
    """Expand a template, or a file of templates, to a manifest.

    The chosen values become columns: var_NAME of a variable, slot_NAME of a wildcard, slot_2
    of the second place that is chosen. In a grid the leftmost place changes slowest. A file
    holds one template a line. Files and DIR may lie on this machine or at any fsspec URL.
    """
    from sdbatch.manifest.local_copy import local_copy
    from sdbatch.manifest.template_files import names_remote_file, template_lines
    from sdbatch.manifest.templates import expand
    from sdbatch.manifest.wildcards import WildcardFolder
    from sdbatch.manifest.written import demand_parquet, write_manifest

    demand_parquet(output)
    with ExitStack() as keep:
        if names_remote_file(template):
            template = keep.enter_context(local_copy(template)).path
        if wildcards:
            wildcards = keep.enter_context(local_copy(wildcards)).path
        made = expand(
            template_lines(template),
            mode=mode,
            rows=rows,
            seed=seed,
            limit=limit,
            wildcards=WildcardFolder(wildcards) if wildcards else None,
            columns=dict(_column(text) for text in set_column),
        )
        count = write_manifest(output, made.schema, made)
    click.echo(f"{output}: {count:,} rows, columns {', '.join(made.schema.names)}")
    return 0


def _column(text: str) -> tuple[str, Any]:
    """Name and value; what reads as a JSON number or truth value is one."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InputError(f"--set-column {text}: write name=value, such as seed=7")
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        read = value
    return name, read if isinstance(read, int | float) and abs(read) < math.inf else value

"""`sdbatch manifest diff`: what is new, gone and changed between two sides."""

from __future__ import annotations

import json
from typing import Any

import click

from sdbatch.audit.manifest_diff import diff
from sdbatch.manifest.differences import Difference

EPILOG = """\
\b
Examples:
  sdbatch manifest diff monday.parquet tuesday.parquet
  sdbatch manifest diff out/monday tuesday.parquet      what is new since that dataset

Exit codes: 0 compared, 2 input, 3 storage.
"""


@click.command(epilog=EPILOG)
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print the counts for machines.")
def command(old: str, new: str, as_json: bool) -> int:
    """Compare OLD with NEW: manifests, or a manifest and the folder of a dataset."""
    found = diff(old, new)
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else _text(found))
    return 0


def _text(found: Difference) -> str:
    counts = [f"new {found.new:,}", f"changed {found.changed:,}", f"same {found.same:,}"]
    lines = [f"{' / '.join([*counts, f'gone {found.gone:,}'])} (rows known by {found.by})"]
    lines += [f"  {name}: {rows:,} rows" for name, rows in found.columns.items()]
    for kind in ("changed", "new", "gone"):
        places = [_place(one) for one in found.examples.get(kind, ())]
        if places:
            lines.append(f"{kind}, the first: {'; '.join(places)}")
    return "\n".join(lines)


def _place(one: dict[str, Any]) -> str:
    if one["old"] is None or one["new"] is None:
        return f"row {one['new'] if one['old'] is None else one['old']}"
    return f"row {one['old']} -> {one['new']} ({', '.join(one['columns'])})"

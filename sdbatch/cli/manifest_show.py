"""`sdbatch manifest show`: the first rows, or the columns, of a manifest."""

from __future__ import annotations

import json
from typing import Any

import click

from sdbatch.manifest.opening import reading
from sdbatch.manifest.reader import Manifest, read_rows
from sdbatch.manifest.schema import CANONICAL, LATER

SHOWN_CHARACTERS = 300


@click.command(epilog="Exit codes: 0 shown, 2 input, 3 storage.")
@click.argument("manifest")
@click.option("--rows", type=click.IntRange(1), default=5, show_default=True, help="How many rows.")
@click.option("--from", "first", type=click.IntRange(0), default=0, help="The first of them.")
@click.option("--columns", is_flag=True, help="Show the columns and what each is read as.")
@click.option("--json", "as_json", is_flag=True, help="Print them whole, for machines.")
def command(manifest: str, rows: int, first: int, columns: bool, as_json: bool) -> int:
    """Show rows of MANIFEST as they are read, or its columns."""
    with reading(manifest) as opened:
        _show(opened, rows, first, columns, as_json)
    return 0


def _show(opened: Manifest, rows: int, first: int, columns: bool, as_json: bool) -> None:
    found = _columns(opened) if columns else _rows(opened, first, rows)
    if as_json:
        click.echo(json.dumps(found, indent=1, default=str))
    elif columns:
        width = max(len(one["column"]) for one in found)
        for one in found:
            click.echo(f"{one['column']:<{width}}  {one['type']:<12}  {one['use']}")
    else:
        for row in found:
            click.echo(f"row {row['row']}")
            for name, value in row["values"].items():
                click.echo(f"  {name}: {_shown(value)}")
        click.echo(f"{opened.ref.num_rows:,} rows in {len(opened.ref.files):,} files")


def _columns(opened: Manifest) -> list[dict[str, Any]]:
    return [
        {"column": field.name, "type": str(field.type), "use": _use(field.name)}
        for field in opened.schema
    ]


def _use(name: str) -> str:
    if name in CANONICAL:
        return "read"
    return "refused where a row fills it" if name in LATER else "passed through"


def _rows(opened: Manifest, first: int, rows: int) -> list[dict[str, Any]]:
    """Rows with the values they state."""
    end = min(first + rows, opened.ref.num_rows)
    if first >= end:
        raise click.UsageError(f"--from {first}: the manifest has {opened.ref.num_rows:,} rows")
    found = read_rows(opened.ref, first, end, opened.schema.names).to_pylist()
    return [
        {"row": place, "values": {key: value for key, value in row.items() if value is not None}}
        for place, row in enumerate(found, first)
    ]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."

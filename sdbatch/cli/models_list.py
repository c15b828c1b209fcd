"""`sdbatch models list`: the models of this machine."""

from __future__ import annotations

from dataclasses import asdict

import click

from sdbatch import api
from sdbatch.cli.answer import answer
from sdbatch.cli.models_fetch import MODELS_DIR
from sdbatch.render.weights.fetching import as_bytes
from sdbatch.render.weights.models_here import ModelHere

HEADINGS = ("model", "kind", "revision", "size", "last used", "")
SHOWN_DIGITS = 12


@click.command(epilog="Exit codes: 0 listed, 2 input.")
@MODELS_DIR
@click.option("--json", "as_json", is_flag=True, help="Print all fields for machines.")
def command(models_dir: str, as_json: bool) -> int:
    """List what `--model` finds here without a network: fetched, in folders, shipped."""
    found = api.list_models(models_dir=models_dir)
    if as_json:
        click.echo(answer({"models": [asdict(model) for model in found]}))
    else:
        click.echo(_table(found))
    return 0


def _table(found: list[ModelHere]) -> str:
    cells = [HEADINGS, *(_cells(model) for model in found)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS) - 1)]
    widths.append(0)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def _cells(model: ModelHere) -> tuple[str, ...]:
    revision = model.revision[:SHOWN_DIGITS]
    refs = f" ({', '.join(model.refs)})" if model.refs else ""
    note = "" if model.whole else "not whole, fetch it again"
    note = "never loaded: pickles can run code" if model.kind == "pickle" else note
    size, used = as_bytes(model.size_bytes), model.last_used[:10]
    return (model.name, model.kind, f"{revision}{refs}", size, used, note)

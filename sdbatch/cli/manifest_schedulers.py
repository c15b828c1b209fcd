"""`sdbatch manifest schedulers`: what rows can be drawn with."""

from __future__ import annotations

import json
from typing import Any

import click

from sdbatch.manifest.scheduler_names import named_variants
from sdbatch.plan.facts import FACTS, FLOWING, aliases

HEADINGS = ("scheduler", "kind", "way", "history", "also called", "")


@click.command(epilog="Exit codes: 0 done, 2 input.")
@click.option("--json", "as_json", is_flag=True, help="Print all fields for machines.")
def command(as_json: bool) -> int:
    """List the schedulers that rows can name, and how each is drawn with.

    \b
    tabled   rows of any settings share every pass of the model
    grouped  rows of equal settings alone share a pass
    unfit    diffusers has it, a Stable Diffusion model cannot be drawn with it
    
    Models that follow a flow (SD3, Flux, Sana) are drawn with those marked 'flow models' alone.
    """
    rows = [_row(name) for name in FACTS]
    click.echo(json.dumps(rows, indent=1) if as_json else _table(rows))
    return 0


def _row(name: str) -> dict[str, Any]:
    """What there is to know of one scheduler."""
    fact = FACTS[name]
    return {
        "scheduler": name,
        "aliases": list(aliases(name)),
        "variants": named_variants(name),
        "kind": fact["kind"],
        "way": fact["way"],
        "flow_models": name in FLOWING,
        "history": fact.get("history"),
        "grouped_with": {key: on["at"] for key, on in fact.get("grouped_with", {}).items()},
        "reason": fact.get("reason", ""),
    }


def _table(rows: list[dict[str, Any]]) -> str:
    """Columns for a person, those that can be drawn with first."""
    ordered = sorted(rows, key=lambda row: (row["way"] == "unfit", row["scheduler"]))
    cells = [HEADINGS, *(_cells(row) for row in ordered)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS) - 1)]
    return "\n".join(
        "  ".join((*(text.ljust(n) for text, n in zip(line, widths, strict=False)), line[-1]))
        .rstrip()
        for line in cells
    )  # fmt: skip


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    history = "" if row["way"] == "unfit" else str(row["history"] or "-")
    switches = [f"{key} {str(at).lower()}" for key, at in row["grouped_with"].items()]
    said = row["reason"] or (f"grouped with {' or '.join(switches)}" if switches else "")
    said = ", ".join(filter(None, ("flow models" if row["flow_models"] else "", said)))
    also = ", ".join(row["aliases"])
    return (row["scheduler"], row["kind"], row["way"], history, also, said)

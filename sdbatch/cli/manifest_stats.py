"""`sdbatch manifest stats`: what a manifest holds."""

from __future__ import annotations

import json

import click

from sdbatch.manifest.opening import reading
from sdbatch.manifest.reader import Manifest, read_rows
from sdbatch.manifest.stats import ManifestStats, bars, manifest_stats

SHOWN_CHARACTERS = 100


@click.command(epilog="Exit codes: 0 counted, 2 input, 3 storage.")
@click.argument("manifest")
@click.option("--json", "as_json", is_flag=True, help="Print all counts for machines.")
def command(manifest: str, as_json: bool) -> int:
    """Count the rows of MANIFEST: settings, prompt lengths, repeated and nearly equal prompts."""
    with reading(manifest) as opened:
        found = manifest_stats(opened)
        click.echo(json.dumps(found.to_dict(), indent=1) if as_json else _text(opened, found))
    return 0


def _text(opened: Manifest, found: ManifestStats) -> str:
    lines = [f"{found.rows:,} rows, {len(found.columns)} columns"]
    for name, counts in found.settings.items():
        lines += [name, *bars(counts)]
    lines += ["words in a prompt", *bars(found.words)]
    lines.append(
        f"{found.empty_prompts:,} empty prompts, {found.repeated_prompts:,} that stand in an "
        f"earlier row, {found.near_duplicates:,} that nearly do"
    )
    for earlier, row in found.near_pairs:
        lines += [f"  row {number}: {_prompt(opened, number)}" for number in (earlier, row)]
    return "\n".join(lines)


def _prompt(opened: Manifest, row: int) -> str:
    text = read_rows(opened.ref, row, row + 1, ["prompt"])["prompt"][0].as_py() or ""
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")

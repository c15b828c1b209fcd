"""`sdbatch manifest check`: every row held against a model's limits, before a GPU is asked for."""

from __future__ import annotations

import json

import click

from sdbatch.engine.check_run import ManifestCheck, check_manifest

EPILOG = """\
\b
Examples:
  sdbatch manifest check prompts.parquet --model stable-diffusion-v1-5/stable-diffusion-v1-5
  sdbatch manifest check prompts.parquet --report errors.parquet

Exit codes: 0 every row can be drawn, 2 some cannot: the first 20 are shown, all are counted.
"""


@click.command(epilog=EPILOG)
@click.argument("manifest")
@click.option("--model", default="shapes", show_default=True, help="What shall draw it.")
@click.option(
    "--report",
    metavar="FILE",
    help="Write all problems to this Parquet file: file, row, column, value, message.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings for machines.")
def command(manifest: str, model: str, report: str | None, as_json: bool) -> int:
    """Check every row of MANIFEST; draws nothing and needs no GPU."""
    found = check_manifest(manifest, model=model, report=report)
    click.echo(json.dumps(found.to_dict(), indent=1) if as_json else _text(found))
    return 2 if found.total else 0


def _text(found: ManifestCheck) -> str:
    lines = [str(problem) for problem in found.problems]
    if found.total > len(lines):
        lines.append(f"... and {found.total - len(lines):,} more; --report FILE writes all")
    if found.total:
        problems = "1 problem" if found.total == 1 else f"{found.total:,} problems"
        lines.append(f"{problems} in {found.rows:,} rows")
    else:
        lines.append(f"{found.rows:,} rows, {found.images:,} images: every row can be drawn")
    return "\n".join([*lines, *found.notes])

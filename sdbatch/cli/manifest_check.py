"""`sdbatch manifest check`: every row held against a model's limits, before a GPU is asked for."""

from __future__ import annotations

import json
from typing import Any

import click

from sdbatch.cli.options import MODELS_DIR_HELP
from sdbatch.engine.check_run import ManifestCheck, check_manifest
from sdbatch.job import PROMPT_SYNTAXES

EPILOG = """\
\b
Examples:
  sdbatch manifest check prompts.parquet --model stable-diffusion-v1-5/stable-diffusion-v1-5
  sdbatch manifest check prompts.parquet --report errors.parquet
  sdbatch manifest check prompts.csv --prompt-syntax a1111 --scheduler "DPM++ 2M Karras"

Exit codes: 0 every row can be drawn, 2 some cannot: the first 20 are shown, all are counted.
"""


@click.command(epilog=EPILOG)
@click.argument("manifest")
@click.option("--model", default="shapes", show_default=True, help="What shall draw it.")
@click.option("--models-dir", metavar="DIR", default="", help=MODELS_DIR_HELP)
@click.option(
    "--report",
    metavar="FILE",
    help="Write all problems to this Parquet file: file, row, column, value, message.",
)
@click.option(
    "--num-images-per-prompt", type=click.IntRange(1), metavar="N", default=1,
    help="Pictures of rows that do not say how many.",
)  # fmt: skip
@click.option("--scheduler", metavar="NAME", default="", help="Of rows that name none.")
@click.option(
    "--prompt-syntax", type=click.Choice(PROMPT_SYNTAXES), default=PROMPT_SYNTAXES[0],
    help="How prompts of rows that do not say are read.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N rows.")
@click.option(
    "--check-files", is_flag=True,
    help="Open every picture that rows point to; otherwise their folders are listed.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the findings for machines.")
def command(manifest: str, as_json: bool, **how: Any) -> int:
    """Check every row of MANIFEST; draws nothing and needs no GPU."""
    found = check_manifest(manifest, **how)
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

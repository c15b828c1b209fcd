"""`sdbatch manifest split`: consecutive parts, or random shares."""

from __future__ import annotations

import click

from sdbatch.manifest.opening import reading
from sdbatch.manifest.split import split_parts, split_shares

EPILOG = """\
\b
Examples:
  sdbatch manifest split prompts.parquet parts --parts 8
  sdbatch manifest split prompts.parquet sets --train 0.9 --val 0.1 --seed 7

Exit codes: 0 written, 2 input, 3 storage.
"""


@click.command(epilog=EPILOG)
@click.argument("manifest")
@click.argument("out_dir")
@click.option("--parts", type=int, metavar="N", help="Consecutive parts of equal length.")
@click.option("--train", type=float, metavar="SHARE", help="Random share for train.parquet.")
@click.option("--val", type=float, metavar="SHARE", help="For val.parquet.")
@click.option("--test", type=float, metavar="SHARE", help="For test.parquet.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Rows of the shares."
)
@click.option("--overwrite", is_flag=True, help="Replace files of these names.")
def command(
    manifest: str,
    out_dir: str,
    parts: int | None,
    train: float | None,
    val: float | None,
    test: float | None,
    seed: int,
    overwrite: bool,
) -> int:
    """Write the rows of MANIFEST to several Parquet files in OUT_DIR."""
    said = {"train": train, "val": val, "test": test}
    shares = {name: share for name, share in said.items() if share is not None}
    if (parts is None) == (not shares):
        raise click.UsageError("give either --parts N, or shares such as --train 0.9 --val 0.1")
    with reading(manifest) as opened:
        if parts is not None:
            written = split_parts(opened, out_dir, parts, overwrite=overwrite)
        else:
            written = split_shares(opened, out_dir, shares, seed=seed, overwrite=overwrite)
    for name, rows in written.items():
        click.echo(f"{out_dir}/{name}: {rows:,} rows")
    return 0

"""`sdbatch manifest shuffle`: the rows in random order."""

from __future__ import annotations

import click

from sdbatch.manifest.opening import reading
from sdbatch.manifest.shuffle import shuffle


@click.command(epilog="Exit codes: 0 written, 2 input, 3 storage.")
@click.argument("manifest")
@click.argument("out")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The order.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def command(manifest: str, out: str, seed: int, overwrite: bool) -> int:
    """Write the rows of MANIFEST to the Parquet file OUT in random order.

    One seed gives one order, on every machine; memory is bounded.
    """
    with reading(manifest) as opened:
        rows = shuffle(opened, out, seed=seed, overwrite=overwrite)
    click.echo(f"{out}: {rows:,} rows in the order of seed {seed}")
    return 0

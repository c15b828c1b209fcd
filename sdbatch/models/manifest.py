"""`python -m sdbatch.models.manifest FILE`: full captions never seen in training, as a manifest."""

from __future__ import annotations

from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.models.sampling import unseen


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--count", type=click.IntRange(1), default=1000, help="How many captions.")
def command(file: Path, count: int) -> None:
    """Write captions that the judge can read; their seed is used by no training."""
    pq.write_table(pa.table({"prompt": unseen(count)[1]}), file)


if __name__ == "__main__":
    command()

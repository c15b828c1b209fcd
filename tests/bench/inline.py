"""How much of a bare loop's speed one process keeps, end to end.

The bare loop of `throughput.py` in one process with one thread, and in turn with it
`render` on the inline engine: lanes, PNG, Parquet, commits. Goal: at least 0.95.

    python -m tests.bench.inline --rows 512
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from tests.bench.throughput import prompts, run_bare, run_product


def main() -> None:
    """Run the rounds and print each and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sdbatch-bench-"))
    try:
        table = prompts(args.rows)
        pq.write_table(table, folder / "rows.parquet")
        ratios = []
        for turn in range(args.rounds):
            bare = run_bare(table, 1, args.lanes)
            ours, summary = run_product(
                folder / "rows.parquet", folder / f"out{turn}", "inline", 1, args.lanes
            )
            ratios.append(ours / bare)
            print(
                f"round {turn}: bare {bare:.2f} images/s, inline {ours:.2f} images/s, ratio "
                f"{ours / bare:.3f}, occupancy {summary.occupancy:.3f}, {summary.phase_seconds}"
            )
        print(f"median ratio {statistics.median(ratios):.3f} over {args.rounds} rounds")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

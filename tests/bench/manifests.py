"""Planning over long manifests, and freezing a long text: seconds and memory after imports.

python -m tests.bench.manifests --rows 1000000
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.planning import CHILD, write_manifest

GOALS_S = {"parquet check": 10.0, "parquet no-check": 1.0}


def write_csv(path: Path, rows: int) -> None:
    """The rows of `write_manifest` with names and samplers of other programs."""
    samplers = ("Euler a", "DPM++ 2M Karras", "ddim")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "Prompt", "Seed", "Sampler"])
        for i in range(rows):
            prompt = f'a picture of "thing" number {i}, digital art, highly detailed'
            writer.writerow([f"row-{i}", prompt, i, samplers[i % 3]])


def measure(path: Path, way: str) -> dict[str, float]:
    """One `plan` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), way], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure each kind once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows that are checked")
    parser.add_argument("--long", type=int, default=0, help="rows planned unchecked; 10000000, say")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(folder / "rows.parquet", args.rows)
        print("parquet check", measure(folder / "rows.parquet", "check"))
        write_csv(folder / "rows.csv", args.rows)
        print("csv freeze, no check", measure(folder / "rows.csv", "no-check"))
        print("csv freeze and check", measure(folder / "rows.csv", "check"))
        if args.long:
            write_manifest(folder / "long.parquet", args.long)
            print("parquet no-check", measure(folder / "long.parquet", "no-check"))
    print("goals in seconds", GOALS_S)


if __name__ == "__main__":
    main()

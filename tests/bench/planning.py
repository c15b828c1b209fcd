"""How long `plan` takes over a million rows, and how much memory, after imports.

python tests/bench/planning.py --rows 1000000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

CHILD = """
import json, resource, sys, time
from sdbatch import api
import sdbatch.engine.prepare
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.monotonic()
report = api.plan(sys.argv[1], check=sys.argv[2] == "check")
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak_mb": peak / 1024, "grown_mb": (peak - before) / 1024,
                  "rows": report.rows}))
"""


def write_manifest(path: Path, rows: int) -> None:
    """Prompts of about 60 characters with an id and a seed, in row groups of 100,000."""
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string()), ("seed", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, 100_000):
            span = range(first, min(first + 100_000, rows))
            writer.write_table(
                pa.table(
                    [
                        [f"row-{i}" for i in span],
                        [
                            f"a picture of thing number {i}, digital art, highly detailed"
                            for i in span
                        ],
                        list(span),
                    ],
                    schema=schema,
                )
            )


def main() -> None:
    """Measure both ways, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_manifest(path, args.rows)
        for way in ("no-check", "check"):
            done = subprocess.run(
                [sys.executable, "-c", CHILD, str(path), way],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            print(way, json.loads(done.stdout))
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "sdbatch.cli.main", "--help"], check=True,
                   capture_output=True)  # fmt: skip
    print(f"--help {time.monotonic() - started:.2f} s")
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()

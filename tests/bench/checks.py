"""How long `manifest check` takes, and how much memory: good rows, and rows with problems.

python -m tests.bench.checks --rows 1000000 10000000

Rows hold an id, a prompt of 60 characters, a seed, a size, steps, guidance and a scheduler;
one in ten thousand is bad. Each run is a process of its own; imports count for memory alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEED = 7
CHUNK = 100_000
CHILD = """
import json, resource, sys, time
from sdbatch.engine.check_run import check_manifest
started = time.monotonic()
found = check_manifest(sys.argv[1], model="shapes", report=sys.argv[2] or None)
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": found.rows, "problems": found.total, "seconds": round(seconds, 2),
                  "peak_mb": peak // 1024}))
"""


def write_manifest(path: Path, rows: int) -> None:
    """The rows described above."""
    draw = np.random.default_rng(SEED)
    schedulers = np.array(["DDIM", "EulerDiscreteScheduler", "DPMSolverMultistep"])
    writer = None
    for first in range(0, rows, CHUNK):
        number = np.arange(first, min(first + CHUNK, rows))
        steps = draw.integers(4, 50, len(number))
        steps[number % 10_000 == 9_999] = 0
        texts = [f"a picture of thing number {i}, digital art, highly detailed" for i in number]
        table = pa.table(
            {
                "id": [f"row-{i}" for i in number],
                "prompt": texts,
                "seed": number,
                "width": np.where(number % 3 == 0, 64, 128),
                "num_inference_steps": steps,
                "guidance_scale": draw.integers(10, 90, len(number)) / 10,
                "scheduler": schedulers[number % 3],
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def main() -> None:
    """Measure each length, without a report and with one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for rows in args.rows:
            path = Path(folder) / "rows.parquet"
            write_manifest(path, rows)
            for report in ("", str(Path(folder) / "errors.parquet")):
                done = subprocess.run(
                    [sys.executable, "-c", CHILD, str(path), report],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                print("with report" if report else "no report", json.loads(done.stdout))


if __name__ == "__main__":
    main()

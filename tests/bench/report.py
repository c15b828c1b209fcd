"""A report over a large dataset of tiny fake pictures: its time, its memory and its size.

    python -m tests.bench.report --images 100000
    python -m tests.bench.report --dataset out/night

The dataset is drawn first, which is not counted; `--keep FOLDER` draws it once for many calls.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch import api

MIB = 2**20
SCHEDULERS = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler")


def draw(folder: Path, images: int, size: str) -> Path:
    """A dataset with failures, three schedulers and columns of its own."""
    numbers = np.arange(images)
    rows = {
        "prompt": [f"a small red circle on a blue background, number {i}" for i in numbers],
        "scheduler": [SCHEDULERS[i % 3] for i in numbers],
        "guidance_scale": (numbers % 9).astype(np.float64),
        "style": [("flat", "ink", "oil", "wood")[i % 4] for i in numbers],
        "weight": np.random.default_rng(0).normal(size=images),
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), folder / "rows.parquet")
    api.render(
        str(folder / "rows.parquet"), folder / "out", model="fake:fail=0.01", engine="inline",
        size=size, allow_failed="100%",
    )  # fmt: skip
    return folder / "out"


class Watch(threading.Thread):
    """Looks at the memory of this process; what exec leaves of a parent's is not in it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process, self._done = psutil.Process(), threading.Event()
        self.first = self.most = self._process.memory_info().rss

    def run(self) -> None:
        """Take a sample every few milliseconds."""
        while not self._done.wait(0.01):
            self.most = max(self.most, self._process.memory_info().rss)

    def stop(self) -> None:
        """Take no more."""
        self._done.set()
        self.join()


def measure(dataset: Path) -> dict:
    """One report in this process, which has done nothing else."""
    watch = Watch()
    watch.start()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = api.report(dataset, out=Path(folder) / "report.html")
    seconds = time.monotonic() - started
    watch.stop()
    return {
        "pictures": made.pictures,
        "shown": made.shown,
        "seconds": round(seconds, 2),
        "page_mb": round(made.size_bytes / 1e6, 2),
        "grown_mib": round((watch.most - watch.first) / MIB, 1),
        "peak_mib": round(watch.most / MIB, 1),
    }


def main() -> None:
    """Draw if need be, then measure in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--dataset", type=Path)
    given = parser.parse_args()
    if given.dataset:
        print(json.dumps(measure(given.dataset)))
        return
    with tempfile.TemporaryDirectory(prefix="sdbatch-report-") as own:
        folder = given.keep or Path(own)
        out = folder / "out"
        dataset = out if out.exists() else draw(folder, given.images, given.size)
        here = [sys.executable, "-m", "tests.bench.report", "--dataset", str(dataset)]
        subprocess.run(here, check=True)


if __name__ == "__main__":
    main()

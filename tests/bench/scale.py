"""A large run of tiny fake pictures: how many rows a second, and whether memory stays flat.

Memory is that of the process that drives: with `--engine ray` the driver alone, inline the
worker too. Its growth is counted from the tenth part of the run on, when everything that
lasts has been loaded.

    python -m tests.bench.scale --rows 1000000 --engine inline
    python -m tests.bench.scale --rows 1000000 --engine ray --workers 2
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch import api

GROUP_ROWS = 65_536
MIB = 2**20


def write_manifest(path: Path, rows: int) -> None:
    """Numbered prompts, in row groups that workers read in place."""
    schema = pa.schema([("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, GROUP_ROWS):
            numbers = range(first, min(first + GROUP_ROWS, rows))
            prompts = [f"picture number {number}" for number in numbers]
            writer.write_table(pa.table({"prompt": prompts}, schema), GROUP_ROWS)


class Watch:
    """A reporter that looks at the memory of this process."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, int]] = []
        self._process = psutil.Process()

    def note(self, line: str) -> None:
        """Lines are for people."""

    def progress(self, progress) -> None:
        """Take a sample: share of the pictures drawn, resident bytes."""
        share = (progress.done + progress.finished) / progress.images
        self.samples.append((share, self._process.memory_info().rss))

    def growth(self) -> int:
        """Bytes from the tenth part on to the highest after it."""
        settled = [rss for share, rss in self.samples if share >= 0.1]
        return max(settled) - settled[0] if settled else 0

    @property
    def most(self) -> int:
        """Highest resident bytes."""
        return max(rss for _, rss in self.samples)


def measure(rows: int, engine: str, workers: int, size: str, shard_size: int | None) -> dict:
    """One run; gives its figures."""
    folder = Path(tempfile.mkdtemp(prefix="sdbatch-scale-"))
    try:
        write_manifest(folder / "rows.parquet", rows)
        watch = Watch()
        options = {"workers": workers} if engine == "ray" else {}
        options |= {"shard_size": shard_size} if shard_size else {}
        started = time.monotonic()
        summary = api.render(
            str(folder / "rows.parquet"), folder / "out", model="fake", engine=engine, size=size,
            report=watch, **options,
        )  # fmt: skip
        seconds = time.monotonic() - started
        files = len(api.open_dataset(folder / "out").files())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "rows": rows,
        "engine": engine,
        "workers": summary.workers,
        "size": size,
        "success": summary.success,
        "exit_code": summary.exit_code,
        "files": files,
        "seconds": round(seconds, 1),
        "rows_per_s": round(rows / seconds, 1),
        "most_mib": round(watch.most / MIB, 1),
        "growth_mib": round(watch.growth() / MIB, 1),
        "phase_seconds": {name: round(s, 1) for name, s in summary.phase_seconds.items()},
    }


def main() -> None:
    """Parse, measure, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--engine", choices=["inline", "ray"], default="inline")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--size", default="16x16")
    parser.add_argument("--shard-size", type=int)
    args = parser.parse_args()
    figures = measure(args.rows, args.engine, args.workers, args.size, args.shard_size)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""How well encoding, writing and committing hide behind a busy device.

Room 2 sleeps a fixed time a tick, as a host does while a GPU works, and hands out real
1024x1024 pictures; everything after it is real: worker, PNG, spool, Parquet, hashes,
commits. The share is the time that the ticks must take over the time until the last
commit record stood. Goal: at least 0.97.

    python -m tests.bench.hidden_io --rows 160
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch import api
from sdbatch.engine import worker as worker_module
from sdbatch.records import RenderRow
from sdbatch.render.fake import FakeRenderer
from sdbatch.results import RenderedImage, RowFailure

SIDE = 1024
PICTURES = 6


def photo_like(seed: int) -> np.ndarray:
    """Twice, one above the other, a picture with a photograph's spectrum and grain, uint8."""
    chance = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    amplitude = 1 / np.maximum(frequency, 1 / SIDE) ** 1.2
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * chance.random(frequency.shape))
        plane = np.fft.irfft2(amplitude * phase, (SIDE, SIDE))
        planes.append(128 + 50 * plane / plane.std() + chance.normal(0, 1.5, plane.shape))
    picture = np.stack(planes, -1).clip(0, 255).astype(np.uint8)
    return np.concatenate([picture, picture])


class SleepingRenderer(FakeRenderer):
    """Guided rows in lanes whose every pass takes `tick_s`, with pictures made beforehand."""

    tick_s = 0.2
    pictures: tuple[np.ndarray, ...] = ()
    first_tick = last_tick = 0.0
    ticks = 0

    def render(self, rows: Iterable[RenderRow | None]) -> Iterator[RenderedImage | RowFailure]:
        """Draw every row; see `protocol.Renderer.render`."""
        feed, exhausted = iter(rows), False
        flying: list[list] = []
        lanes = self.lanes[f"{SIDE}x{SIDE}"]
        while True:
            while not exhausted and 2 * len(flying) < lanes:
                try:
                    row = next(feed)
                except StopIteration:
                    exhausted = True
                    break
                if row is None:
                    break
                flying.append([row, row.num_inference_steps])
            if not flying:
                if exhausted:
                    return
                time.sleep(0.002)
                continue
            type(self).first_tick = self.first_tick or time.time()
            time.sleep(self.tick_s)
            type(self).ticks, type(self).last_tick = self.ticks + 1, time.time()
            for each in flying:
                each[1] -= 1
            done = [row for row, left in flying if not left]
            flying = [each for each in flying if each[1]]
            for row in done:
                first = row.row_index % SIDE  # another picture for each row, without a copy
                picture = self.pictures[row.row_index % PICTURES][first : first + SIDE]
                yield RenderedImage(row, picture, lanes, False, 0.0)


def main() -> None:
    """Render once and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--shard-size", type=int, default=40)
    parser.add_argument("--tick", type=float, default=0.2, help="seconds")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sdbatch-bench-"))
    SleepingRenderer.tick_s = args.tick
    SleepingRenderer.pictures = tuple(photo_like(seed) for seed in range(PICTURES))
    try:
        pq.write_table(
            pa.table({"prompt": [f"p{i}" for i in range(args.rows)]}), folder / "rows.parquet"
        )
        with mock.patch.object(worker_module, "load_renderer", SleepingRenderer):
            summary = api.render(
                str(folder / "rows.parquet"), str(folder / "out"), model="fake", engine="inline",
                size=f"{SIDE}x{SIDE}", num_inference_steps=args.steps, batch_size=args.lanes,
                shard_size=args.shard_size,
            )  # fmt: skip
        ended = time.time()
        if summary.success != args.rows:
            raise SystemExit(f"{summary.success} of {args.rows} pictures: {summary.reason}")
        records = (folder / "out" / "__sdbatch" / "main" / "commits").rglob("*.json")
        last = max(path.stat().st_mtime for path in records)
        first, until = SleepingRenderer.first_tick, SleepingRenderer.last_tick
        ideal = -(-args.rows * 2 // args.lanes) * args.steps * args.tick
        size = sum(path.stat().st_size for path in (folder / "out" / "data").rglob("*.parquet"))
        print(
            f"{summary.success} pictures of {size / summary.success / 1e6:.2f} MB, "
            f"{SleepingRenderer.ticks} ticks; ideal {ideal:.2f} s, last tick after "
            f"{until - first:.2f} s, last commit after "
            f"{last - first:.2f} s: share {ideal / (last - first):.4f}; all over after "
            f"{ended - first:.2f} s: share {ideal / (ended - first):.4f}; "
            f"{summary.phase_seconds}"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

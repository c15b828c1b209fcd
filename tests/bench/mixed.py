"""Rows of unlike settings against alike ones, and against the pipeline called row by row.

A manifest that mixes 6 schedulers, 6-20 steps and guidance 1-9 is rendered in turn with a
uniform one of the same mean steps, both end to end (PNG, Parquet, commits). Beside them
diffusers' pipeline draws a sample of the mixed rows one by one to uint8, which is the only
way it has for rows that differ: in a process of its own, as its documentation shows it,
once with torch's own number of threads (all cores) and once with one. Goals: row_steps/s
at least 0.95 of the uniform run, occupancy at least 0.93, and with a worker on each core
at least 3 times the pipeline with all cores. Loading is left out everywhere.

    python -m tests.bench.mixed --rows 1024 --workers 2
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch import api
from sdbatch.engine.bench import MIX_GUIDANCE, MIX_SCHEDULERS
from tests.bench.throughput import MODEL, prompts

FEWEST, MOST = 6, 20
MEAN = (FEWEST + MOST) // 2


def manifests(rows: int) -> tuple[pa.Table, pa.Table]:
    """The uniform and the mixed manifest, of the same prompts and seeds."""
    base, chance = prompts(rows), random.Random(0)
    uniform = base.append_column("num_inference_steps", pa.array([MEAN] * rows))
    mixed = base
    for name, draw in (
        ("num_inference_steps", lambda: chance.randint(FEWEST, MOST)),
        ("guidance_scale", lambda: round(chance.uniform(*MIX_GUIDANCE), 1)),
        ("scheduler", lambda: chance.choice(MIX_SCHEDULERS)),
    ):
        mixed = mixed.append_column(name, pa.array([draw() for _ in range(rows)]))
    return uniform, mixed


def rendered(manifest: Path, out: Path, workers: int, lanes: int, size: str):
    """(row_steps/s, images/s, summary) of one run, start-up left out."""
    how = {"engine": "ray", "workers": workers} if workers > 1 else {"engine": "inline"}
    summary = api.render(str(manifest), str(out), batch_size=lanes, size=size, **how)
    seconds = summary.success / summary.images_per_s
    return summary.row_steps / seconds, summary.images_per_s, summary


def draw_row_by_row(manifest: str, rows: int, threads: int, size: str) -> None:
    """Draw the first rows one call each and print images/s; `threads` 0 leaves them to torch."""
    import diffusers
    import torch

    if threads:
        torch.set_num_threads(threads)
    width, height = (int(side) for side in size.split("x"))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    config = {"clip_sample": False} | dict(pipe.scheduler.config)

    def draw(row: dict) -> None:
        pipe.scheduler = getattr(diffusers, row["scheduler"]).from_config(config)
        images = pipe(
            row["prompt"], num_inference_steps=row["num_inference_steps"], width=width,
            height=height, guidance_scale=row["guidance_scale"], output_type="pt",
            generator=torch.Generator().manual_seed(row["seed"]),
        ).images  # fmt: skip
        (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    sample = pq.read_table(manifest).slice(0, rows).to_pylist()
    draw(sample[0])
    started = time.monotonic()
    for row in sample:
        draw(row)
    print(len(sample) / (time.monotonic() - started))


def row_by_row(manifest: Path, rows: int, threads: int, size: str) -> float:
    """Images/s of diffusers' pipeline, called once for each of the first rows elsewhere."""
    call = f"mixed.draw_row_by_row({str(manifest)!r}, {rows}, {threads}, {size!r})"
    code = f"from tests.bench import mixed; {call}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(told.stdout.split()[-1])


def main() -> None:
    """Run the rounds and print each and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=1, help="1 is inline; more take Ray")
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--size", default="64x64", help="of the rendered pictures")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=64, help="rows of the pipeline, 0 for none")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sdbatch-bench-"))
    found: dict[str, list[float]] = {"steps": [], "lanes": [], "all cores": [], "one thread": []}
    try:
        uniform, mixed = manifests(args.rows)
        pq.write_table(uniform, folder / "uniform.parquet")
        pq.write_table(mixed, folder / "mixed.parquet")
        for turn in range(args.rounds):
            steps, rates, lanes = {}, {}, {}
            for name in ("uniform", "mixed"):
                steps[name], rates[name], summary = rendered(
                    folder / f"{name}.parquet", folder / f"{name}{turn}", args.workers, args.lanes,
                    args.size,
                )  # fmt: skip
                lanes[name] = steps[name] * summary.lane_steps / summary.row_steps
                print(
                    f"round {turn}: {name} {steps[name]:.1f} row_steps/s, {rates[name]:.2f} "
                    f"images/s, occupancy {summary.occupancy:.3f}, {summary.phase_seconds}"
                )
            found["steps"].append(steps["mixed"] / steps["uniform"])
            found["lanes"].append(lanes["mixed"] / lanes["uniform"])
            for name, threads in (("all cores", 0), ("one thread", 1)) if args.sample else ():
                plain = row_by_row(folder / "mixed.parquet", args.sample, threads, args.size)
                found[name].append(rates["mixed"] / plain)
                print(f"round {turn}: row by row on {name} {plain:.2f} images/s")
        medians = {name: f"{statistics.median(of):.3f}" for name, of in found.items() if of}
        print(
            f"median mixed / uniform in row_steps {medians['steps']}, lane_steps "
            f"{medians['lanes']}; mixed / row by row on all cores "
            f"{medians.get('all cores', '-')}, on one thread {medians.get('one thread', '-')}"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

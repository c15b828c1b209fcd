"""Rows of unlike settings against alike ones, and against the pipeline called row by row.

A manifest that mixes 6 schedulers, 6-20 steps and guidance 1-9 is rendered in turn with a
uniform one of the same mean steps, both end to end (PNG, Parquet, commits). Beside them
diffusers' pipeline draws a sample of the mixed rows one by one, which is the only way it
has for rows that differ. Goals: row_steps/s at least 0.95 of the uniform run, occupancy
at least 0.93, at least 3 times the pipeline.

    python -m tests.bench.mixed --rows 1024 --workers 2
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch import api
from sdbatch.engine.bench import MIX_GUIDANCE, MIX_SCHEDULERS
from sdbatch.plan.rows import Resolving, resolve_rows
from sdbatch.records import RenderSpec
from sdbatch.render.architecture import folder_architecture
from sdbatch.render.diffusers_folder import load_folder
from sdbatch.render.model_facts import find_model
from sdbatch.render.plain_pipeline import PlainPipeline
from tests.bench.throughput import prompts

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


def row_by_row(table: pa.Table, rows: int, threads: int) -> float:
    """Images/s of diffusers' pipeline, called once for each of the first rows."""
    facts = find_model("shapes")
    renderer = load_folder(RenderSpec("shapes", facts.path, facts.revision, "auto", {}, threads))
    config = folder_architecture("shapes", Path(facts.path)).scheduler
    pipeline = PlainPipeline(renderer, config, threads)
    how = Resolving(
        manifest="rows", defaults=facts.defaults, seed=0, hash_rows=True, occurrences={},
        model_revision=facts.revision,
    )  # fmt: skip
    sample = list(resolve_rows(table.slice(0, rows), range(rows), how))
    pipeline.draw(sample[:1], 1)
    started = time.monotonic()
    pipeline.draw(sample, 1)
    return len(sample) / (time.monotonic() - started)


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
    found: dict[str, list[float]] = {"steps": [], "lanes": [], "pipeline": []}
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
            if args.sample:
                plain = row_by_row(mixed, args.sample, args.workers)
                found["pipeline"].append(rates["mixed"] / plain)
                print(f"round {turn}: row by row {plain:.2f} images/s")
        medians = {name: f"{statistics.median(of):.3f}" for name, of in found.items() if of}
        print(f"median mixed / uniform in row_steps {medians['steps']}, lane_steps "
              f"{medians['lanes']}; mixed / row by row {medians.get('pipeline', '-')}")  # fmt: skip
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""How much of a bare loop's speed the whole product keeps.

Draws the shape prompts twice, in turn: by a bare loop (as many processes, the same threads
and lanes, diffusers' own components called to uint8, nothing written) and by `render` (Ray,
lanes, PNG, Parquet, commits). Start-up is left out of both and reported.

    python tests/bench/throughput.py --rows 1024 --workers 2 --rounds 3
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "sdbatch" / "models" / "shapes"
STEPS, GUIDANCE = 12, 3.0


def prompts(rows: int) -> pa.Table:
    """The shape prompts, repeated with other seeds until there are enough."""
    table = pq.read_table(ROOT / "manifests" / "shapes.parquet", columns=["prompt"])
    whole = pa.concat_tables([table] * (rows // table.num_rows + 1)).slice(0, rows)
    return whole.append_column("seed", pa.array(range(rows), pa.int64()))


def bare_loop(rows: list[tuple[str, int]], lanes: int, go, results) -> None:
    """One process: `lanes // 2` pictures at a time through the three rooms."""
    import torch
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained(MODEL, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    batch = lanes // 2

    def draw(part: list[tuple[str, int]]) -> None:
        texts = [text for text, _ in part]
        generators = [torch.Generator().manual_seed(seed) for _, seed in part]
        images = pipe(
            texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators,
            output_type="pt",
        ).images  # fmt: skip
        (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    draw(rows[:batch])
    go.wait()
    started = time.monotonic()
    for first in range(0, len(rows), batch):
        draw(rows[first : first + batch])
    results.put(time.monotonic() - started)


def run_bare(table: pa.Table, workers: int, lanes: int) -> float:
    """Pictures a second of the bare loop over all processes."""
    context = multiprocessing.get_context("spawn")
    rows = list(zip(table["prompt"].to_pylist(), table["seed"].to_pylist(), strict=True))
    go, results = context.Barrier(workers), context.Queue()
    processes = [
        context.Process(target=bare_loop, args=(rows[i::workers], lanes, go, results))
        for i in range(workers)
    ]
    for process in processes:
        process.start()
    seconds = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return len(rows) / max(seconds)


def run_product(manifest: Path, out: Path, engine: str, workers: int, lanes: int):
    """Pictures a second of `render`, and its summary."""
    from sdbatch import api

    options = {"workers": workers} if engine == "ray" else {}
    summary = api.render(str(manifest), str(out), engine=engine, batch_size=lanes, **options)
    return summary.images_per_s, summary


def main() -> None:
    """Run the rounds and print each and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=["ray", "inline"], default="ray")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sdbatch-bench-"))
    try:
        table = prompts(args.rows)
        pq.write_table(table, folder / "rows.parquet")
        ratios = []
        for turn in range(args.rounds):
            bare = run_bare(table, args.workers, args.lanes)
            ours, summary = run_product(
                folder / "rows.parquet", folder / f"out{turn}", args.engine, args.workers,
                args.lanes,
            )  # fmt: skip
            ratios.append(ours / bare)
            print(
                f"round {turn}: bare {bare:.2f} img/s, render {ours:.2f} img/s, "
                f"ratio {ours / bare:.3f}, start-up {summary.startup_seconds:.1f} s, "
                f"occupancy {summary.occupancy:.3f}, phases {summary.phase_seconds}"
            )
        print(f"median ratio {statistics.median(ratios):.3f} over {args.rounds} rounds")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

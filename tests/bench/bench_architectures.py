"""The published architectures with random weights: they load and draw, in what time and memory.

    python -m tests.bench.bench_architectures --arch sd15
    python -m tests.bench.bench_architectures --arch sdxl --dtype bfloat16

Each picture size is drawn with every room of the model: two texts, a guided row of a few
steps, a decode. What memory is expected is said first, and refused where there is less.
"""

from __future__ import annotations

import argparse
import time

import torch

from sdbatch.model_specs import RenderSpec
from sdbatch.records import ANY_SIZE, RenderRow, size_name
from sdbatch.render.architecture import Architecture, find_architecture
from sdbatch.render.device import DTYPES, choose_device, choose_dtype
from sdbatch.render.memory.memory_need import check_fits, memory_need
from sdbatch.render.memory.peak_memory import MemoryWatch
from sdbatch.render.random_model import load_random, make_rooms
from sdbatch.results import RowFailure

GB = 1e9
LANES = 2


def main() -> None:
    """Load an architecture and draw a picture of each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sd15")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--sizes", nargs="+", default=["512x512", "1024x1024"])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--cpu-threads", type=int, default=1)
    args = parser.parse_args()
    device = choose_device()
    dtype = choose_dtype(args.dtype, device)
    architecture = find_architecture(args.arch)
    sizes = [(int(width), int(height)) for width, height in (one.split("x") for one in args.sizes)]
    rooms = make_rooms(architecture, torch.device("meta"), DTYPES[dtype])
    for size in sizes:
        need = memory_need(rooms, LANES, size)
        check_fits(architecture, need, dtype, LANES, size, device)
        print(
            f"{architecture.title}, {dtype}, {size_name(*size)}: expects {need.total / GB:.2f} GB"
        )
    spec = RenderSpec(args.arch, "", "", dtype, {ANY_SIZE: LANES}, args.cpu_threads)
    with MemoryWatch(device) as watch:
        started = time.perf_counter()
        renderer = load_random(spec, architecture)
        loaded = time.perf_counter() - started
        print(
            f"loaded in {loaded:.1f} s, {watch.peak_bytes / GB:.2f} GB at most so far", flush=True
        )
        for size in sizes:
            before = dict(renderer.counters.phase_seconds)
            started = time.perf_counter()
            (drawn,) = renderer.render([row(architecture, size, args.steps)])
            seconds = time.perf_counter() - started
            if isinstance(drawn, RowFailure):
                raise SystemExit(f"{size_name(*size)}: {drawn.error_type}: {drawn.error_message}")
            phases = {
                name: round(value - before.get(name, 0.0), 1)
                for name, value in renderer.counters.phase_seconds.items()
            }
            print(
                f"{size_name(*size)}: {args.steps} steps in {seconds:.1f} s, {phases}, picture "
                f"{drawn.pixels.shape}, {watch.peak_bytes / GB:.2f} GB at most",
                flush=True,
            )


def row(architecture: Architecture, size: tuple[int, int], steps: int) -> RenderRow:
    """A guided picture with the model's own scheduler."""
    defaults = architecture.defaults
    return RenderRow(
        0, 0, "0", "a lighthouse at dusk", "blurry", 0, *size, steps,
        defaults.guidance_scale, defaults.scheduler,
    )  # fmt: skip


if __name__ == "__main__":
    main()

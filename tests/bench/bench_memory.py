"""`--memory auto` under budgets: what is taken, and that the pixels are those of all rooms at once.

    python -m tests.bench.bench_memory                       # what each budget takes, counted
    python -m tests.bench.bench_memory --draw --size 512x512 --steps 1

The first line of figures is counted on models without weights, so it is the same on any machine.
With `--draw` the architecture is made with random weights and drawn twice: with everything on
the device, and as the budget wants it.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.records import ANY_SIZE, size_name
from sdbatch.render.architecture import Architecture, find_architecture
from sdbatch.render.device import DTYPES, describe, use_threads
from sdbatch.render.diffusers_folder import join_rooms
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.memory.counted_bytes import GB
from sdbatch.render.memory.memory_choice import Asking, DeviceRoom, first_that_fits
from sdbatch.render.memory.memory_modes import MODES, RESIDENT, needs_of
from sdbatch.render.random_model import make_rooms
from sdbatch.results import RenderedImage
from tests.bench.bench_architectures import row

META, CPU = torch.device("meta"), torch.device("cpu")
LANES = 2


def main() -> None:
    """Say what each budget takes; draw, if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="sdxl")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--size", default="")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--budgets", type=float, nargs="+", default=[4, 6, 8, 10, 12, 16, 24])
    parser.add_argument("--budget", type=float, default=8, help="GB that a drawing may take")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    architecture = find_architecture(args.arch)
    own = (architecture.defaults.width, architecture.defaults.height)
    width, _, height = args.size.partition("x")
    size = (int(width), int(height)) if args.size else own
    empty = lambda dtype: make_rooms(architecture, META, dtype)  # noqa: E731
    needs = needs_of(empty(DTYPES[args.dtype]), LANES, size, CPU)
    takes = ", ".join(f"{mode} {needs.of(mode) / GB:.2f}" for mode in MODES)
    print(f"{architecture.title}, {args.dtype}, {size_name(*size)}, {LANES} lanes: {takes} GB")
    asking = Asking(args.arch, CPU, args.dtype, size, LANES)
    for budget in args.budgets:
        try:
            print(first_that_fits(asking, DeviceRoom(int(budget * GB), False), empty).notes[0])
        except ModelError as error:
            print(error)
    if args.draw:
        mode = first_that_fits(asking, DeviceRoom(int(args.budget * GB), False), empty).mode
        draw(architecture, args.dtype, size, args.steps, args.rows, mode)


def draw(
    architecture: Architecture,
    dtype: str,
    size: tuple[int, int],
    steps: int,
    rows: int,
    mode: str,
) -> None:
    """The same rows with everything on the device and in `mode`."""
    use_threads(1)
    rooms = make_rooms(architecture, CPU, DTYPES[dtype])
    wanted = pixels(architecture, rooms, dtype, size, steps, rows, RESIDENT)
    found = pixels(architecture, rooms, dtype, size, steps, rows, mode)
    equal = all(np.array_equal(one, other) for one, other in zip(wanted, found, strict=True))
    print(f"{rows} pictures in {mode}: {'equal' if equal else 'NOT EQUAL'} to {RESIDENT}")
    if not equal:
        raise SystemExit(1)


def pixels(
    architecture: Architecture,
    rooms: Rooms,
    dtype: str,
    size: tuple[int, int],
    steps: int,
    rows: int,
    mode: str,
) -> list[np.ndarray]:
    """Pictures of some rows, in their order."""
    spec = RenderSpec(architecture.name, "", "", dtype, {ANY_SIZE: LANES}, 1)
    env = describe(CPU, dtype, architecture.pipeline_class, 1)
    renderer = join_rooms(spec, env, rooms, architecture.scheduler, (), CPU, mode)
    asked = row(architecture, size, steps)
    wanted = [type(asked)(**{**_fields(asked), "row_index": i, "seed": i}) for i in range(rows)]
    started = time.perf_counter()
    found: dict[int, np.ndarray] = {}
    for result in renderer.render(wanted):
        if not isinstance(result, RenderedImage):
            raise SystemExit(f"{result.error_type}: {result.error_message}")
        found[result.row.row_index] = result.pixels
    swaps = getattr(renderer.residence, "swaps", 0)
    spent = {name: round(value, 2) for name, value in renderer.counters.phase_seconds.items()}
    print(
        f"{mode}: {rows} pictures in {time.perf_counter() - started:.1f} s, {swaps} swaps, {spent}",
        flush=True,
    )
    return [found[index] for index in range(rows)]


def _fields(asked: object) -> dict[str, object]:
    return {name: getattr(asked, name) for name in type(asked).__dataclass_fields__}


if __name__ == "__main__":
    main()

"""The speed of a run, measured on some of its own rows before it begins.

Rows are taken from all over the manifest and drawn in this process by the model of the plan;
their pictures are thrown away. Each group of rows of one size and number of steps is repeated
until it fills the lanes, for a half empty pass would look slow. Groups that no probed row
belongs to are scaled from those of their size, by their work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np

from sdbatch.engine.budgets import Means
from sdbatch.engine.prepare import Prepared
from sdbatch.errors import JobError
from sdbatch.manifest.reader import read_rows
from sdbatch.plan.budget import Speed
from sdbatch.plan.rows import Resolving, resolve_or_fail
from sdbatch.plan.settings import row_defaults
from sdbatch.records import RenderRow, size_name
from sdbatch.render.loading import load_renderer
from sdbatch.render.protocol import Renderer
from sdbatch.results import RowFailure

WARM_STEPS = 2
"""Steps of rows that are drawn once before the clock runs."""

Size = tuple[int, int]
Group = tuple[Size, int]
"""Width and height in pixels, and model calls times lanes of one picture."""


@dataclass(frozen=True, slots=True)
class Probed:
    """The measured speed of one group of rows.

    Attributes:
        size: `WxH`.
        steps: Steps of a picture.
        lanes: Model inputs of a step: two with guidance.
        images: Pictures drawn.
        seconds_per_image: Wall time of each, of one worker.
    """

    size: str
    steps: int
    lanes: int
    images: int
    seconds_per_image: float

    def line(self) -> str:
        """For a person."""
        guided = "with guidance" if self.lanes > 1 else "without guidance"
        return (
            f"probed {self.size}, {self.steps} steps {guided}: "
            f"{self.seconds_per_image:.3g} s an image"
        )


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe found.

    Attributes:
        speed: Of the whole run, on one worker.
        groups: Each group that was drawn.
        failures: Rows that failed, the first reason; empty when none did.
    """

    speed: Speed
    groups: tuple[Probed, ...]
    failures: str


def with_probe(prepared: Prepared, means: Means, note: Callable[[str], None]) -> Means:
    """What a call says, with the speed of its probe where it asks for one.

    Args:
        prepared: The run.
        means: As the call says it.
        note: Told what is done and found, a line each.

    Raises:
        JobError: No row can be drawn.
        InputError: The model cannot be loaded.
    """
    if not means.probe:
        return means
    found = probe(prepared, means.probe, note)
    for line in (*(one.line() for one in found.groups), found.failures):
        if line:
            note(line)
    return replace(means, speed=found.speed, probed=found.groups)


def probe(prepared: Prepared, rows: int, note: Callable[[str], None]) -> Probe:
    """Draw some rows of a run and measure them; nothing is written.

    Args:
        prepared: The run.
        rows: How many rows to take.
        note: Told what is being done.

    Raises:
        JobError: No row can be drawn.
        InputError: The model cannot be loaded.
    """
    if rows < 1:
        raise JobError(f"--probe {rows}: must be 1 or more")
    sample = spread_rows(prepared, rows)
    groups: dict[Group, list[RenderRow]] = {}
    for row in sample:
        work = row.num_inference_steps * _lanes(row)
        groups.setdefault(((row.width_px, row.height_px), work), []).append(row)
    note(f"probing {len(sample):,} rows with model {prepared.model.name}")
    renderer = load_renderer(prepared.render, sorted({size for size, _ in groups}))
    measured: dict[Group, Probed] = {}
    failures: list[str] = []
    for group in sorted(groups):
        found = _measure(renderer, groups[group], failures)
        if found is not None:
            measured[group] = found
    if not measured:
        raise JobError(f"--probe: none of {len(sample):,} rows can be drawn, {_first(failures)}")
    seconds = _seconds(prepared, {group: one.seconds_per_image for group, one in measured.items()})
    failed = f"{len(failures):,} probed rows failed, {failures[0]}" if failures else ""
    speed = Speed(images_per_s=prepared.images / seconds)
    return Probe(speed, tuple(measured.values()), failed)


def _first(failures: Sequence[str]) -> str:
    return failures[0] if failures else "every one that was looked at is bad"


def spread_rows(prepared: Prepared, rows: int) -> list[RenderRow]:
    """The first picture of rows from all over the manifest; bad ones are left out.

    The same rows at every call, as the run would draw them.

    Raises:
        JobError: No row can be drawn.
    """
    stands, job = prepared.stored is not None, prepared.job
    bad = job.bad if job is not None else None
    repeats = job.repeats.to_pydict() if job is not None else {"row_index": [], "occurrence": []}
    places = np.unique(np.linspace(0, prepared.rows - 1, min(rows, prepared.rows)).astype(int))
    how = Resolving(
        manifest=prepared.manifest.name,
        defaults=row_defaults(prepared.resolved),
        seed=prepared.resolved.value("seed"),
        hash_rows=prepared.resolved.value("manifest.hash_rows"),
        occurrences=dict(zip(repeats["row_index"], repeats["occurrence"], strict=True)),
        model_revision=prepared.render.weights_revision,
    )
    found = []
    for place in places.tolist():
        lenient = stands or bad is not None
        ref, storage = prepared.manifest, prepared.storage
        table = read_rows(ref, place, place + 1, storage=storage, lenient=lenient)
        if bad is None or not bad.between(place, place + 1).cells.num_rows:
            pictures, _ = resolve_or_fail(table, [place], how)
            found += pictures[:1]
    if not found:
        raise JobError(f"none of {len(places):,} rows can be drawn, every one is bad")
    return found


def _lanes(row: RenderRow) -> int:
    return 2 if row.guided else 1


def _measure(renderer: Renderer, rows: Sequence[RenderRow], failures: list[str]) -> Probed | None:
    """Draw rows of one group; None when all of them fail."""
    first = rows[0]
    size = size_name(first.width_px, first.height_px)
    full = max(1, renderer.lanes.get(size, 1) // _lanes(first))
    filled = list(islice(cycle(rows), max(full, len(rows))))
    # The same row twice would be told apart by nothing: each gets a place of its own.
    filled = [replace(row, image_index=index) for index, row in enumerate(filled)]
    warm = min(WARM_STEPS, first.num_inference_steps)
    for _ in renderer.render([replace(row, num_inference_steps=warm) for row in filled[:full]]):
        pass
    started, drawn = time.perf_counter(), 0
    for result in renderer.render(filled):
        if isinstance(result, RowFailure):
            said = " ".join(result.error_message.split())
            failures.append(f"row {result.row.row_index}: {said}")
        else:
            drawn += 1
    if not drawn:
        return None
    seconds = (time.perf_counter() - started) / drawn
    return Probed(size, first.num_inference_steps, _lanes(first), drawn, seconds)


def _seconds(prepared: Prepared, measured: Mapping[Group, float]) -> float:
    """What one worker needs for all pictures."""
    if prepared.expected is None:  # a plan that stands: its shards know work, not rows
        return sum(
            shard.cost * _rate(measured, _size_of(prepared, shard.group))
            for shard in prepared.shards
        )
    total = 0.0
    for size, work, images in prepared.expected.groups:
        known = measured.get((size, work))
        per_image = work * size[0] * size[1] * _rate(measured, size) if known is None else known
        total += images * per_image
    return total


def _size_of(prepared: Prepared, group: str) -> Size:
    if not group:
        return prepared.sizes[0]
    width, _, height = group.partition("x")
    return int(width), int(height)


def _rate(measured: Mapping[Group, float], size: Size) -> float:
    """Seconds of one call of one lane and pixel, of this size where it was measured."""
    rates = [
        (group[0] == size, seconds / (group[1] * group[0][0] * group[0][1]))
        for group, seconds in measured.items()
    ]
    same = [rate for is_same, rate in rates if is_same]
    chosen = same or [rate for _, rate in rates]
    return sum(chosen) / len(chosen)

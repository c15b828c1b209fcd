"""A benchmark as it runs: load, warm up, rounds in turn, medians.

All ways of drawing run once in every round, one after the other, so that a machine that
is slow for a while is slow for all of them. Neither Ray nor files take part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from sdbatch.engine.bench import BenchAsk, BenchPlan, plan_bench
from sdbatch.engine.bench_report import (
    Arithmetic,
    BenchReport,
    Measured,
    Memory,
    Spent,
    plain_rates,
    rates,
)
from sdbatch.errors import RenderError
from sdbatch.records import RenderRow
from sdbatch.results import RowFailure

if TYPE_CHECKING:
    from sdbatch.render.bench_model import BenchModel

Note = Callable[[str], None]

WARM_STEPS = 2
"""Rows that only warm up take this many steps: enough for every kind of step."""


@dataclass(slots=True)
class _Way:
    """One way of drawing rows, and what it has spent in each round."""

    name: str
    rows: Sequence[RenderRow]
    draw: Callable[[Sequence[RenderRow]], Spent]
    spent: list[Spent] = field(default_factory=list)


def run_bench(ask: BenchAsk, note: Note) -> BenchReport:
    """Measure a model on this machine.

    Args:
        note: Told what is being done, a line each.

    Raises:
        InputError: The options cannot be met, or the memory is too small.
        RenderError: A row failed, so there is nothing to measure.
    """
    from sdbatch.render.bench_model import BenchModel

    plan = plan_bench(ask)
    size = (plan.defaults.width, plan.defaults.height)
    model = BenchModel(plan.architecture, plan.spec, size, random_weights=plan.random_weights)
    with model.watch:
        note(f"loading {plan.architecture.name}, {model.need.weights / 1e9:.2f} GB of weights")
        load_seconds = model.load()
        ours = _our_ways(plan, model)
        for way in ours:
            _warm_up(way, model.lanes)
        _round(ours, f"round 1 of {plan.rounds}", note)
    plain = _plain_ways(plan, model, ours[-1].rows)
    for way in plain:
        _warm_up(way, model.lanes)
    _round(plain, f"round 1 of {plan.rounds}", note)
    for number in range(2, plan.rounds + 1):
        _round([*ours, *plain], f"round {number} of {plan.rounds}", note)
    return _report(plan, model, load_seconds, ours, plain)


def _our_ways(plan: BenchPlan, model: BenchModel) -> list[_Way]:
    def draw(rows: Sequence[RenderRow]) -> Spent:
        return _draw(model, rows)

    ways = [_Way("uniform", plan.uniform(model.lanes), draw)]
    return [*ways, _Way("mixed", plan.mixed(model.lanes), draw)] if plan.mix else ways


def _plain_ways(plan: BenchPlan, model: BenchModel, rows: Sequence[RenderRow]) -> list[_Way]:
    """The pipeline of diffusers, one row at a time, and as many rows at once as our lanes hold."""
    if plan.compare is None:
        return []
    pipeline = model.plain_pipeline()
    at_once = max(1, model.lanes // 2)

    def drawing(count: int) -> Callable[[Sequence[RenderRow]], Spent]:
        def draw(rows: Sequence[RenderRow]) -> Spent:
            started = time.perf_counter()
            pipeline.draw(rows, count)
            model.finish()
            return Spent(time.perf_counter() - started, 0, 0, 0, {})

        return draw

    return [
        _Way("diffusers one by one", rows, drawing(1)),
        _Way("diffusers in batches", rows, drawing(at_once)),
    ]


def _draw(model: BenchModel, rows: Sequence[RenderRow]) -> Spent:
    """Draw rows with the renderer and say what it took.

    Raises:
        RenderError: A row failed.
    """
    counters = model.renderer.counters
    before = (counters.row_steps, counters.lane_steps, counters.lane_slots)
    phases = dict(counters.phase_seconds)
    started = time.perf_counter()
    for result in model.renderer.render(rows):
        if isinstance(result, RowFailure):
            row, reason = result.row, " ".join(result.error_message.split())
            raise RenderError(f"row {row.row_index} ({row.scheduler}) failed, {reason}")
    model.finish()
    seconds = time.perf_counter() - started
    after = (counters.row_steps, counters.lane_steps, counters.lane_slots)
    row_steps, lane_steps, lane_slots = (b - a for a, b in zip(before, after, strict=True))
    spent = {name: value - phases.get(name, 0.0) for name, value in counters.phase_seconds.items()}
    return Spent(seconds, row_steps, lane_steps, lane_slots, spent)


def _warm_up(way: _Way, lanes: int) -> None:
    """Fill the lanes once, with few steps: kernels are chosen and memory is taken."""
    first = way.rows[: max(1, lanes // 2)]
    way.draw([replace(row, num_inference_steps=WARM_STEPS) for row in first])


def _round(ways: Sequence[_Way], name: str, note: Note) -> None:
    for way in ways:
        way.spent.append(way.draw(way.rows))
        rate = len(way.rows) / way.spent[-1].seconds
        note(f"{name}: {way.name} {rate:.3f} images/s")


def _report(
    plan: BenchPlan, model: BenchModel, load_seconds: float, ours: list[_Way], plain: list[_Way]
) -> BenchReport:
    peak = model.peak()
    arithmetic = Arithmetic(model.pass_flops(), peak.flops_per_s, peak.what)
    measured: list[Measured] = [
        rates(way.name, len(way.rows), way.spent, model.lanes, arithmetic) for way in ours
    ]
    measured += [
        plain_rates(way.name, len(way.rows), [one.seconds for one in way.spent]) for way in plain
    ]
    said, architecture = plan.defaults, plan.architecture
    return BenchReport(
        model=architecture.title if plan.random_weights else architecture.name,
        source=architecture.source,
        random_weights=plan.random_weights,
        env=model.renderer.env,
        width=said.width,
        height=said.height,
        num_inference_steps=said.num_inference_steps,
        guidance_scale=said.guidance_scale,
        true_cfg_scale=said.true_cfg_scale,
        scheduler=said.scheduler,
        lanes=model.lanes,
        rows=len(ours[0].rows),
        rounds=plan.rounds,
        load_seconds=load_seconds,
        measured=measured,
        ratios=_ratios(ours, plain),
        arithmetic=arithmetic,
        memory=Memory(model.watch.peak_bytes, model.need.weights, model.expected),
    )


def _ratios(ours: list[_Way], plain: list[_Way]) -> dict[str, float]:
    """Our last way over every other: what was drawn is the same within a pair."""
    last = ours[-1]
    found = {}
    if len(ours) > 1:
        for figure in ("row_steps", "lane_steps"):
            pairs = zip(last.spent, ours[0].spent, strict=True)
            found[f"{last.name} / {ours[0].name}, {figure} per second"] = median(
                (getattr(a, figure) / a.seconds) / (getattr(b, figure) / b.seconds)
                for a, b in pairs
            )
    for way in plain:
        pairs = zip(last.spent, way.spent, strict=True)
        found[f"{last.name} / {way.name}, images per second"] = median(
            b.seconds / a.seconds for a, b in pairs
        )
    return found

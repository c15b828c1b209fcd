"""A diffusers scheduler becomes a table of coefficients.

Nearly every scheduler's update is linear in the latents, the model outputs, their recent
history and fresh noise:

    x[k+1] = sum_j  a[k][j] x[k-j] + b[k][j] e[k-j]  +  n[k] noise,   model input c[k] x[k] at t[k]

So the real scheduler is run once on basis vectors instead of latents and its coefficients
are read off by least squares. Nothing is re-implemented here and no scheduler is known by
name: one that diffusers adds tomorrow works the same day, or is refused with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdbatch.errors import InputError, SchedulerNotLinearError
from sdbatch.render.schedulers import (
    SchedulerSetting,
    Timing,
    Walk,
    scheduler_setting,
    walk_scheduler,
)

MAX_HISTORY = 4
MAX_COEFFICIENT = 1e3
FIT_TOLERANCE = 2e-6
REPLAY_TOLERANCE = 1e-5
REPLAY_MAGNITUDES = (1.0, 100.0)
"""Clipping leaves small numbers alone: only a second, large magnitude shows it."""

Weights = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class SolverTable:
    """One scheduler with one setting, as numbers; a step is a model evaluation.

    Attributes:
        scheduler: Class name it was read from.
        t: Timestep given to the model, per step.
        c: Factor on the latents before they enter the model, per step.
        a: Weights of the latents x[k], x[k-1], ... per step, `history` each.
        b: Weights of the model outputs e[k], e[k-1], ... per step, `history` each.
        n: Weight of the step's fresh noise.
        draws: Noises (0 or 1) the scheduler draws in the step, used or not.
        init_noise_sigma: Factor on unit noise at the start.
        add_x0: Weight of given latents at the first step (diffusers' `add_noise`).
        add_noise: Weight of noise there; both nan where the scheduler cannot add noise.
        residual: Largest relative error of the fit.
    """

    scheduler: str
    t: tuple[float, ...]
    c: tuple[float, ...]
    a: Weights
    b: Weights
    n: tuple[float, ...]
    draws: tuple[int, ...]
    init_noise_sigma: float
    add_x0: float
    add_noise: float
    residual: float

    @property
    def steps(self) -> int:
        """Model evaluations from the first latents to the last."""
        return len(self.t)

    @property
    def history(self) -> int:
        """How many latents and outputs a step looks at, the newest included."""
        return len(self.a[0])


def build_table(
    scheduler: str,
    base_config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    num_inference_steps: int,
    begin_index: int = 0,
    timing: Timing = Timing(),  # noqa: B008  # frozen
) -> SolverTable:
    """Read a scheduler's coefficients off the real thing.

    Args:
        scheduler: diffusers class name.
        base_config: The model's own scheduler configuration.
        overrides: Keys that win over it.
        num_inference_steps: As for `set_timesteps`.
        begin_index: First step that is run, for rows that begin in the middle.
        timing: How the family wants the steps to lie for the row's size.

    Raises:
        InputError: The class or a key is unknown, or the scheduler refuses the setting.
        SchedulerNotLinearError: It cannot be written as a table.
    """
    setting = scheduler_setting(
        scheduler, base_config, overrides, num_inference_steps, begin_index, timing
    )
    made = setting.make()
    times = tuple(float(t) for t in made.timesteps[begin_index:])
    if not times:
        raise InputError(f"scheduler: no step is left from step {begin_index} of {scheduler}")
    init_noise_sigma = float(getattr(made, "init_noise_sigma", 1.0))
    add_x0, add_noise = _noising(made, begin_index)
    vectors = _vectors(len(times))
    walk = _precise_walk(made, setting, vectors, len(times))
    basis = _basis_of(walk, setting)
    a, b, n, residual = _shortest_fit(scheduler, basis)
    pairs = zip(basis.states, basis.inputs, strict=False)
    table = SolverTable(
        scheduler=scheduler,
        t=times,
        c=tuple(_factor(scheduler, x, scaled) for x, scaled in pairs),
        a=a,
        b=b,
        n=n,
        draws=tuple(walk.draws),
        init_noise_sigma=init_noise_sigma,
        add_x0=add_x0,
        add_noise=add_noise,
        residual=residual,
    )
    _check_replay(table, vectors[:, 1:].float(), [state[1:] for state in walk.states])
    return table


def _vectors(steps: int) -> Tensor:
    """What a scheduler is walked with: a start, model outputs and noises, `[D, 1 + 2, C, 8, 8]`.

    D = 1 + 2 * steps. The first of a batch holds the basis, one element of its own for each
    of the D; the others hold random latents of two magnitudes, to replay the table against.
    So one walk gives both, and what a scheduler computes for a whole batch is computed once.
    """
    count = 1 + 2 * steps
    channels = max(4, -(-count // 64))
    basis = torch.eye(count, channels * 64, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    random = torch.randn((count, channels, 8, 8), generator=generator)
    samples = (size * random for size in REPLAY_MAGNITUDES)
    return torch.stack([basis.view(count, channels, 8, 8), *(one.double() for one in samples)], 1)


def _basis_of(walk: Walk, setting: SchedulerSetting) -> Walk:
    """The basis' part of a walk: one number per vector.

    Raises:
        InputError: The scheduler divided by zero.
        SchedulerNotLinearError: It draws more than one noise in a step.
    """
    if not all(bool(state.isfinite().all()) for state in walk.states):
        raise InputError(f"scheduler: {setting.name} divides by zero with these settings")
    if max(walk.draws) > 1:
        raise SchedulerNotLinearError(setting.name, math.inf, "several noises in one step")
    count = 1 + 2 * len(walk.draws)
    states, inputs = (
        [part[0].flatten()[:count] for part in parts] for parts in (walk.states, walk.inputs)
    )
    return Walk(states, inputs, walk.draws)


def _precise_walk(made: Any, setting: SchedulerSetting, vectors: Tensor, steps: int) -> Walk:
    """Walk with `vectors`, in float64 where the scheduler allows.

    Raises:
        InputError: The scheduler refuses the setting.
    """

    def run(scheduler: Any, dtype: torch.dtype) -> Walk:
        sized = vectors.to(dtype)
        outputs, noises = sized[1 : 1 + steps], sized[1 + steps :]
        return walk_scheduler(
            scheduler,
            setting,
            sized[0],
            lambda k: outputs[k],
            lambda k: noises[k % len(noises)],
        )

    try:
        return run(made, torch.float64)
    except InputError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        return run(setting.make(), torch.float32)  # float32 constants inside met float64 latents


def _factor(name: str, x: Tensor, scaled: Tensor) -> float:
    """The number by which `x` was multiplied."""
    x, scaled = x.double().flatten(), scaled.double().flatten()
    largest = int(x.abs().argmax())
    factor = float(scaled[largest] / x[largest])
    error = float((scaled - factor * x).abs().max() / scaled.abs().max())
    if not error <= FIT_TOLERANCE:
        raise SchedulerNotLinearError(name, error, "its model input is no multiple of the latents")
    return factor


def _shortest_fit(name: str, walk: Walk) -> tuple[Weights, Weights, tuple[float, ...], float]:
    """Weights `a, b, n` with the fewest past terms that explain every step, and their error."""
    states = [state.double().flatten() for state in walk.states]
    best = math.inf
    for history in range(1, MAX_HISTORY + 1):
        solved, worst = _fit(states, walk.draws, history)
        best = min(best, worst)
        if worst <= FIT_TOLERANCE:
            largest = float(solved.abs().max())
            if largest > MAX_COEFFICIENT:
                raise SchedulerNotLinearError(name, worst, f"a coefficient of {largest:.0f}")
            a, b = solved[:, 0 : 2 * history : 2], solved[:, 1 : 2 * history : 2]
            return _tuples(a), _tuples(b), tuple(solved[:, -1].tolist()), worst
    raise SchedulerNotLinearError(name, best, f"no fit with a history of {MAX_HISTORY}")


def _fit(states: list[Tensor], draws: list[int], history: int) -> tuple[Tensor, float]:
    """Least squares per step: `[steps, 2 * history + 1]` as `x, e, x, e, .., noise`, and error."""
    steps, worst = len(draws), 0.0
    basis = torch.eye(len(states[0]), dtype=torch.float64)
    solved = torch.zeros(steps, 2 * history + 1, dtype=torch.float64)
    for k in range(steps):
        past = range(min(history, k + 1))
        columns = [column for j in past for column in (states[k - j], basis[1 + k - j])]
        places = list(range(len(columns)))
        if draws[k]:
            columns.append(basis[1 + steps + sum(draws[:k])])
            places.append(2 * history)
        matrix, wanted = torch.stack(columns, 1), states[k + 1]
        weights = torch.linalg.lstsq(matrix, wanted[:, None], driver="gelsd").solution[:, 0]
        error = float((matrix @ weights - wanted).abs().max() / wanted.abs().max())
        worst = max(worst, error) if math.isfinite(error) else math.inf
        solved[k, places] = weights
    return solved, worst


def _noising(scheduler: Any, begin_index: int) -> tuple[float, float]:
    """Weights of given latents and of noise where a row begins."""
    if not hasattr(scheduler, "add_noise"):
        return math.nan, math.nan
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    t = scheduler.timesteps[begin_index : begin_index + 1]
    try:
        return (
            float(scheduler.add_noise(one, none, t)),
            float(scheduler.add_noise(none, one, t)),
        )
    except NotImplementedError:
        return math.nan, math.nan


def _check_replay(table: SolverTable, vectors: Tensor, real: list[Tensor]) -> None:
    """Compare table and scheduler on random latents: the table in float32, as lanes use it.

    The scheduler was walked in float64: in float32 some of them cancel large terms against
    each other, and the comparison would measure their rounding instead of the table's.

    Args:
        vectors: Start, model outputs and noises, float32, a sample of each magnitude.
        real: What the scheduler made of them, `[steps + 1]`.
    """
    outputs, noises = vectors[1 : table.steps + 1], vectors[table.steps + 1 :]
    states = [vectors[0] * table.init_noise_sigma]
    for k in range(table.steps):
        after = table.n[k] * noises[sum(table.draws[:k])]
        for j in range(min(table.history, k + 1)):
            after = after + table.a[k][j] * states[k - j] + table.b[k][j] * outputs[k - j]
        states.append(after)
        errors = (after - real[k + 1]).abs().flatten(1).amax(1)
        largest = real[k + 1].abs().flatten(1).amax(1)
        for error, magnitude in zip((errors / largest).tolist(), REPLAY_MAGNITUDES, strict=True):
            if not error <= REPLAY_TOLERANCE:
                reason = f"step {k} differs on latents of size {magnitude:.0f}"
                raise SchedulerNotLinearError(table.scheduler, error, reason)


def _tuples(weights: Tensor) -> Weights:
    return tuple(tuple(row) for row in weights.tolist())

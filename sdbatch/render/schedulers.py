"""The real diffusers schedulers: made from a configuration, and walked step by step.

`solver.py` reads tables off them; nothing else touches one. A scheduler holds call state,
so every walk takes a fresh one. The noise function that schedulers import is replaced
while one is walked, for they accept no noise from outside.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

from sdbatch.errors import InputError

REFUSALS = (
    ValueError,
    TypeError,
    NotImplementedError,
    ImportError,
    RuntimeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
)
"""What schedulers raise at settings they cannot take."""

_patching = threading.Lock()


@dataclass(frozen=True, slots=True)
class SchedulerSetting:
    """One scheduler with one setting.

    Attributes:
        name: diffusers class name.
        config: Configuration of the model with the row's overrides in it.
        num_inference_steps: As for `set_timesteps`.
        begin_index: First step that is run.
        mu: Shift of the schedule for a resolution, where the scheduler shifts dynamically.
    """

    name: str
    config: Mapping[str, Any]
    num_inference_steps: int
    begin_index: int = 0
    mu: float | None = None

    def make(self) -> Any:
        """A fresh scheduler with its timesteps set.

        Raises:
            InputError: The scheduler refuses the setting.
        """
        made = scheduler_class(self.name)
        with _refusals_of(self.name, self.num_inference_steps), _quiet():
            scheduler = made.from_config(dict(self.config))
            shift = {} if self.mu is None else {"mu": self.mu}
            scheduler.set_timesteps(self.num_inference_steps, **shift)
            if self.begin_index and hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(self.begin_index)
        return scheduler


@dataclass(frozen=True, slots=True)
class Walk:
    """One run of a scheduler: states `[steps + 1]`, model inputs and draws `[steps]`."""

    states: list[Tensor]
    inputs: list[Tensor]
    draws: list[int]


def scheduler_class(name: str) -> Any:
    """The diffusers class of that name.

    Raises:
        InputError: There is none; the nearest is named.
    """
    found = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    if found is None or not hasattr(found, "from_config"):
        known = [each for each in dir(diffusers) if each.endswith("Scheduler")]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        hint = f", did you mean {near[0]}?" if near else ""
        raise InputError(f"scheduler: diffusers has no '{name}'{hint}")
    return found


def scheduler_setting(
    name: str,
    base_config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    num_inference_steps: int,
    begin_index: int = 0,
    mu: float | None = None,
) -> SchedulerSetting:
    """A row's setting: the model's configuration with the row's overrides in it.

    An absent `clip_sample` counts as false: its default is meant for models that work
    in pixels, and ruins latents.

    Raises:
        InputError: The class or an override is unknown.
    """
    made = scheduler_class(name)
    takes = set(inspect.signature(made.__init__).parameters) - {"self"}
    for key in overrides:
        if key not in takes:
            near = difflib.get_close_matches(key, sorted(takes), n=1, cutoff=0.5)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise InputError(f"scheduler_config: {name} takes no '{key}'{hint}")
    config = {"clip_sample": False} | dict(base_config)
    known = {key: value for key, value in config.items() if key in takes}
    try:
        with _quiet():
            made.from_config(known | dict(overrides))
    except NotImplementedError:  # an algorithm that only the model's own scheduler has
        known.pop("algorithm_type", None)
    except REFUSALS:
        pass  # said in words when the scheduler is made
    return SchedulerSetting(name, known | dict(overrides), num_inference_steps, begin_index, mu)


def walk_scheduler(
    setting: SchedulerSetting,
    start: Tensor,
    output: Callable[[int], Tensor],
    noise: Callable[[int], Tensor],
) -> Walk:
    """Run a whole schedule with given model outputs and noises instead of drawn ones.

    Raises:
        InputError: The scheduler refuses the setting in mid-run.
    """
    scheduler = setting.make()
    walk = Walk([start * float(getattr(scheduler, "init_noise_sigma", 1.0))], [], [])
    scales = hasattr(scheduler, "scale_model_input")
    extra = step_options(scheduler)
    refusals = _refusals_of(setting.name, setting.num_inference_steps)
    with refusals, _quiet(), noise_from(scheduler, noise) as drawn:
        for k, t in enumerate(scheduler.timesteps[setting.begin_index :]):
            x, before = walk.states[-1], len(drawn)
            walk.inputs.append(scheduler.scale_model_input(x, t) if scales else x)
            after = scheduler.step(output(k), t, x, return_dict=False, **extra)[0]
            if after.shape != x.shape:
                raise ValueError("it does not give latents of the shape it was given")
            walk.states.append(after)
            walk.draws.append(len(drawn) - before)
    return walk


def step_options(scheduler: Any) -> dict[str, float]:
    """What its `step` is told beside numbers: as diffusers' pipelines, no extra noise."""
    return {"eta": 0.0} if "eta" in inspect.signature(scheduler.step).parameters else {}


@contextmanager
def noise_from(scheduler: Any, noise: Callable[[int], Tensor]) -> Iterator[list[int]]:
    """Let the scheduler's modules draw `noise(0)`, `noise(1)`, ..., listed as they are drawn."""
    drawn: list[int] = []

    def draw(*_: Any, dtype: torch.dtype | None = None, **__: Any) -> Tensor:
        drawn.append(len(drawn))
        return noise(drawn[-1]).to(dtype)

    names = {parent.__module__ for parent in type(scheduler).__mro__}
    modules = [importlib.import_module(name) for name in sorted(names)]
    with _patching:
        real = [(m, m.randn_tensor) for m in modules if hasattr(m, "randn_tensor")]
        try:
            for module, _ in real:
                module.randn_tensor = draw  # type: ignore[attr-defined]
            yield drawn
        finally:
            for module, function in real:
                module.randn_tensor = function  # type: ignore[attr-defined]


@contextmanager
def _refusals_of(name: str, steps: int) -> Iterator[None]:
    try:
        yield
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"scheduler: {name} refuses {steps} steps: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep diffusers' advice on unused keys and old defaults off the terminal."""
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)

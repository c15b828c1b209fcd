"""The real diffusers schedulers: made from a configuration, and walked step by step.

`solver.py` reads tables off them; nothing else touches one. A scheduler holds call state,
so every walk takes a fresh one. The noise function that schedulers import is replaced
while one is walked, for they accept no noise from outside; other threads keep the real one.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
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

_replacing = threading.Lock()
_replaced: dict[ModuleType, tuple[Callable[..., Tensor], int]] = {}
"""Modules whose noise function is replaced now: the real one, and by how many walks."""

_here = threading.local()
"""`draw`: where noise comes from in this thread, while it walks a scheduler."""

_silence = threading.Lock()
_silenced: list[int] = []
"""diffusers' verbosity as found, once for everyone who wants it quiet at the moment."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How a family wants the steps to lie for a picture's size, beside their number.

    Attributes:
        mu: Shift of the schedule for a resolution, where the scheduler shifts dynamically.
        sigmas: Noise levels of the steps before any shift, where the scheduler takes such.
        tokens: Of a picture, where `mu` follows from them and the scheduler's configuration.
    """

    mu: float | None = None
    sigmas: tuple[float, ...] | None = None
    tokens: int | None = None

    def settled(self, config: Mapping[str, Any]) -> Timing:
        """`mu` as `calculate_shift` of diffusers' pipelines finds it, where tokens decide it."""
        if self.tokens is None:
            return self
        few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        base, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        slope = (most - base) / (many - few)
        return replace(self, mu=self.tokens * slope + (base - slope * few))


@dataclass(frozen=True, slots=True)
class SchedulerSetting:
    """One scheduler with one setting.

    Attributes:
        name: diffusers class name.
        config: Configuration of the model with the row's overrides in it.
        num_inference_steps: As for `set_timesteps`.
        begin_index: First step that is run.
        timing: What `set_timesteps` is told beside their number, as far as it takes it.
    """

    name: str
    config: Mapping[str, Any]
    num_inference_steps: int
    begin_index: int = 0
    timing: Timing = Timing()

    def make(self) -> Any:
        """A fresh scheduler with its timesteps set.

        Raises:
            InputError: The scheduler refuses the setting.
        """
        made = scheduler_class(self.name)
        with _refusals_of(self.name, self.num_inference_steps), _quiet():
            scheduler = made.from_config(dict(self.config))
            self._set_timesteps(scheduler)
            if self.begin_index and hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(self.begin_index)
        return scheduler

    def _set_timesteps(self, scheduler: Any) -> None:
        """As diffusers' `retrieve_timesteps`: noise levels stand in for a number of steps."""
        takes = inspect.signature(scheduler.set_timesteps).parameters
        options: dict[str, Any] = {}
        if self.timing.mu is not None and "mu" in takes and _shifts(scheduler):
            options["mu"] = self.timing.mu
        own = getattr(scheduler.config, "use_flow_sigmas", False)
        if self.timing.sigmas is not None and "sigmas" in takes and not own:
            scheduler.set_timesteps(sigmas=list(self.timing.sigmas), **options)
        else:
            scheduler.set_timesteps(self.num_inference_steps, **options)


def flow_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A flow model's configuration, with what solvers of other models must know of flows.

    Its own words win. Solvers call the shift of the noise levels `flow_shift`, and schedulers
    that are made for flows call it `shift`; here both are what either one is.
    """
    flow: dict[str, Any] = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    flow["flow_shift"] = config.get("shift", 1.0)
    flow["shift"] = config.get("flow_shift", 1.0)
    return {**flow, **config}


def _shifts(scheduler: Any) -> bool:
    return bool(getattr(scheduler.config, "use_dynamic_shifting", False))


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
    timing: Timing = Timing(),  # frozen
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
    if "algorithm_type" in known and not _takes_algorithm(made, known | dict(overrides)):
        del known["algorithm_type"]
    settled = timing.settled({**base_config, **overrides})
    config = known | dict(overrides)
    return SchedulerSetting(name, config, num_inference_steps, begin_index, settled)


def _takes_algorithm(made: Any, config: Mapping[str, Any]) -> bool:
    """False for an algorithm that only the model's own scheduler has."""
    try:
        with _quiet():
            made.from_config(dict(config))
    except NotImplementedError:
        return False
    except REFUSALS:
        pass  # said in words when the scheduler is made
    return True


def walk_scheduler(
    scheduler: Any,
    setting: SchedulerSetting,
    start: Tensor,
    output: Callable[[int], Tensor],
    noise: Callable[[int], Tensor],
) -> Walk:
    """Run a fresh scheduler from unit latents to its last step.

    Args:
        scheduler: What `setting` makes; used up.
        start: Latents before `init_noise_sigma`.
        output: Stands for the model: its output in step k.
        noise: The k-th noise of the walk, instead of drawn ones.

    Raises:
        InputError: The scheduler refuses the setting in mid-run.
    """
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
    """Let the scheduler draw `noise(0)`, `noise(1)`, ..., listed as they are drawn.

    For this thread alone: whoever draws from the same modules elsewhere gets real noise.
    """
    drawn: list[int] = []

    def draw(*_: Any, dtype: torch.dtype | None = None, **__: Any) -> Tensor:
        drawn.append(len(drawn))
        return noise(drawn[-1]).to(dtype)

    names = {parent.__module__ for parent in type(scheduler).__mro__}
    modules = [importlib.import_module(name) for name in sorted(names)]
    drawing = [module for module in modules if hasattr(module, "randn_tensor")]
    before = getattr(_here, "draw", None)
    for module in drawing:
        _replace_noise(module)
    _here.draw = draw
    try:
        yield drawn
    finally:
        _here.draw = before
        for module in drawing:
            _restore_noise(module)


def _replace_noise(module: Any) -> None:
    with _replacing:
        real, walks = _replaced.get(module, (module.randn_tensor, 0))
        _replaced[module] = (real, walks + 1)

        def draw(*args: Any, **options: Any) -> Tensor:
            found: Tensor = (getattr(_here, "draw", None) or real)(*args, **options)
            return found

        if not walks:
            module.randn_tensor = draw


def _restore_noise(module: Any) -> None:
    with _replacing:
        real, walks = _replaced.pop(module)
        if walks > 1:
            _replaced[module] = (real, walks - 1)
        else:
            module.randn_tensor = real


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
    with _silence:
        _silenced.append(diffusers_logging.get_verbosity())
        if len(_silenced) == 1:
            diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        with _silence:
            if len(_silenced) == 1:
                diffusers_logging.set_verbosity(_silenced[0])
            _silenced.pop()

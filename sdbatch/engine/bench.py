"""What a benchmark draws: its model, its settings, its rows. Decisions only, no torch.

A uniform run asks the same of every row. A mixed one asks for several schedulers, for
steps around the same mean and for any guidance, as a real manifest does.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sdbatch.engine.call_render import demand_known
from sdbatch.engine.model_need import HALF
from sdbatch.engine.request import size_of
from sdbatch.errors import InputError
from sdbatch.model_specs import RenderSpec
from sdbatch.plan.grouping import visiting_order
from sdbatch.records import ANY_SIZE, RenderRow, RowDefaults
from sdbatch.render.architecture import Architecture, find_architecture, folder_architecture
from sdbatch.render.fake import FAKE_PREFIX
from sdbatch.render.families.any_pipeline import is_whole
from sdbatch.render.families.table import FAMILIES
from sdbatch.render.weights.fetched_model import Need
from sdbatch.render.weights.model_facts import find_model
from sdbatch.render.weights.single_file import model_folder

MODEL = "shapes"
FILLS = 4
"""Times the lanes are filled where the count of rows is left open."""
CPU_THREADS = 1

MIX_SCHEDULERS = (
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
)
MIX_GUIDANCE = (1.0, 9.0)
MIX_STEPS = (0.46, 1.54)
"""Fewest and most steps of a mixed row, as shares of a uniform one's: of 13 they are 6 and 20."""


@dataclass(frozen=True, slots=True)
class BenchAsk:
    """What the caller asked; None leaves a setting to the model or the device."""

    model: str | None = None
    arch: str | None = None
    random_weights: bool = False
    rows: int | None = None
    num_inference_steps: int | None = None
    size: str | None = None
    batch_size: int | Literal["auto"] | None = None
    dtype: str = "auto"
    rounds: int = 3
    mix: bool = False
    compare: str | None = None
    models_dir: str | None = None
    device: str = "auto"
    memory: str = "auto"


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """A benchmark, resolved but for the lanes.

    Attributes:
        defaults: What every uniform row asks for.
        spec: How to load the model.
        random_weights: Its weights are made up.
        rows: Pictures of each run of each round; None fills the lanes a few times.
    """

    architecture: Architecture
    defaults: RowDefaults
    spec: RenderSpec
    random_weights: bool
    rows: int | None
    rounds: int
    mix: bool
    compare: str | None

    def uniform(self, lanes: int) -> list[RenderRow]:
        """Rows of equal settings, in the order a worker visits them."""
        return list(_rows(self.defaults, self.rows or FILLS * lanes // 2))

    def mixed(self, lanes: int) -> list[RenderRow]:
        """As many rows of unlike settings, likewise."""
        chance = random.Random(0)
        fewest, most = (max(1, round(s * self.defaults.num_inference_steps)) for s in MIX_STEPS)
        return visiting_order(
            replace(
                row,
                scheduler=chance.choice(MIX_SCHEDULERS),
                guidance_scale=round(chance.uniform(*MIX_GUIDANCE), 1),
                num_inference_steps=chance.randint(fewest, most),
            )
            for row in self.uniform(lanes)
        )


def plan_bench(ask: BenchAsk) -> BenchPlan:
    """Resolve a benchmark.

    Raises:
        InputError: The options contradict each other or cannot be met.
    """
    _check(ask)
    if ask.arch:
        architecture = find_architecture(ask.arch)
        defaults, path, revision = architecture.defaults, "", ""
    else:
        facts = find_model(
            ask.model or MODEL, Need(half=ask.dtype in HALF, models_dir=ask.models_dir or "")
        )
        if facts.path.startswith(FAKE_PREFIX):
            raise InputError(
                f"--model {facts.name}: draws without a model, there is nothing to time"
            )
        if is_whole(facts.pipeline_class):
            raise InputError(
                f"--model {facts.name}: {facts.pipeline_class} is called whole, passes cannot be "
                "timed: measure pictures with `sdbatch plan --probe N`"
            )
        with model_folder(facts.path, facts.name) as folder:
            architecture = folder_architecture(facts.name, folder)
        defaults, path, revision = facts.defaults, facts.path, facts.revision
    lanes = {ANY_SIZE: ask.batch_size} if isinstance(ask.batch_size, int) else {}
    return BenchPlan(
        architecture=architecture,
        defaults=_asked(ask, defaults, architecture),
        spec=RenderSpec(
            architecture.name,
            path,
            revision,
            ask.dtype,
            lanes,
            CPU_THREADS,
            device=ask.device,
            memory=ask.memory,
        ),
        random_weights=ask.random_weights,
        rows=ask.rows,
        rounds=ask.rounds,
        mix=ask.mix,
        compare=ask.compare,
    )


def _check(ask: BenchAsk) -> None:
    if ask.arch and ask.model:
        raise InputError("--arch: give either an architecture or --model, not both")
    if ask.arch:
        find_architecture(ask.arch)  # an unknown name is said before what it lacks
    if ask.arch and not ask.random_weights:
        raise InputError(f"--arch {ask.arch}: has no weights, add --random-weights or use --model")
    if ask.random_weights and not ask.arch:
        raise InputError("--random-weights: name the architecture with --arch")
    if ask.compare not in (None, "diffusers"):
        raise InputError(f"--compare {ask.compare}: only 'diffusers' can be compared with")
    demand_known(ask.memory)
    if ask.compare and ask.memory not in ("auto", "resident"):
        raise InputError(f"--compare: diffusers holds all of a model, not --memory {ask.memory}")
    for flag, value in (
        ("--rows", ask.rows),
        ("--steps", ask.num_inference_steps),
        ("--rounds", ask.rounds),
        ("--batch-size", ask.batch_size if ask.batch_size != "auto" else None),
    ):
        if value is not None and int(value) < 1:
            raise InputError(f"{flag} {value}: must be at least 1")


def _asked(ask: BenchAsk, defaults: RowDefaults, architecture: Architecture) -> RowDefaults:
    """The model's defaults with what was asked in them."""
    if ask.size:
        width, height = size_of(ask.size)
        family = FAMILIES[architecture.pipeline_class]
        step = math.lcm(family.size_step_px, architecture.scale)
        if width < 1 or height < 1 or width % step or height % step:
            raise InputError(f"--size {ask.size}: width and height must be multiples of {step}")
        defaults = replace(defaults, width=width, height=height)
    if ask.num_inference_steps:
        most = int(architecture.scheduler.get("num_train_timesteps", 1000))
        if ask.num_inference_steps > most:
            raise InputError(f"--steps {ask.num_inference_steps}: the model takes at most {most}")
        defaults = replace(defaults, num_inference_steps=ask.num_inference_steps)
    return defaults


def _rows(defaults: RowDefaults, count: int) -> Iterator[RenderRow]:
    for number in range(count):
        yield RenderRow(
            row_index=number,
            image_index=0,
            row_id=str(number),
            prompt=f"picture number {number} of a benchmark",
            negative_prompt="",
            seed=number,
            width_px=defaults.width,
            height_px=defaults.height,
            num_inference_steps=defaults.num_inference_steps,
            guidance_scale=defaults.guidance_scale,
            scheduler=defaults.scheduler,
            true_cfg_scale=defaults.true_cfg_scale,
        )

"""Every way to space, shift and begin a schedule: the table against the real scheduler.

The reference walks diffusers' scheduler on random latents with nothing replaced but the
source of its noise, in float32 as a pipeline does.
"""

from __future__ import annotations

import importlib
import inspect

import diffusers
import pytest
import torch

from sdbatch.errors import InputError
from sdbatch.render.schedulers import Timing
from sdbatch.render.solver import build_table

STEPS = 6
SHAPE = (1, 4, 6, 6)
SD = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "skip_prk_steps": True,
}
SPACED = ("trailing", "leading", "linspace")
SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
WITH_SPACING = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
WITH_SIGMAS = (
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
)
OPTIONS = [
    *((name, {"timestep_spacing": spacing}) for name in WITH_SPACING for spacing in SPACED),
    *((name, {option: True}) for name in WITH_SIGMAS for option in SIGMAS),
    ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
    ("DPMSolverMultistepScheduler", {"euler_at_final": True}),
    ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
    ("DPMSolverMultistepScheduler", {"solver_order": 3, "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    ("DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    ("DDPMScheduler", {"variance_type": "fixed_large"}),
    ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}),
    ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}),
]
FLOW = [
    ("FlowMatchEulerDiscreteScheduler", {"shift": 1.0}, None),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, None),
    ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}, None),
    ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, 0.5),
    ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, 1.15),
]
BEGUN = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


class Run:
    """One run of the real scheduler on random latents, and what it was given."""

    def __init__(self, name, config, monkeypatch, begin=0, mu=None):
        made = getattr(diffusers, name)
        scheduler = made.from_config(config)
        scheduler.set_timesteps(STEPS, **({} if mu is None else {"mu": mu}))
        if hasattr(made, "set_begin_index"):
            scheduler.set_begin_index(begin)
        eta = {"eta": 0.0} if "eta" in inspect.signature(made.step).parameters else {}
        generator = torch.Generator().manual_seed(1)
        self.noises = []

        def draw(shape, **_):
            self.noises.append(torch.randn(tuple(shape), generator=generator))
            return self.noises[-1]

        module = importlib.import_module(made.__module__)
        monkeypatch.setattr(module, "randn_tensor", draw, raising=False)
        times = scheduler.timesteps[begin:]
        self.times = [float(t) for t in times]
        self.outputs = [torch.randn(SHAPE, generator=generator) for _ in times]
        self.picture, self.start = (torch.randn(SHAPE, generator=generator) for _ in range(2))
        if begin:
            self.first = scheduler.add_noise(self.picture, self.start, times[:1])
        else:
            self.first = self.start * getattr(scheduler, "init_noise_sigma", 1.0)
        self.inputs, x = [], self.first
        for t, output in zip(times, self.outputs, strict=True):
            scaled = scheduler.scale_model_input(x, t) if hasattr(made, "scale_model_input") else x
            self.inputs.append(scaled)
            x = scheduler.step(output, t, x, return_dict=False, **eta)[0]
        self.last = x


def replay(table, run):
    """Model inputs and last latents as the table has them, of the same outputs and noises."""
    states, inputs = [run.first], []
    for k in range(table.steps):
        inputs.append(table.c[k] * states[k])
        after = torch.zeros(SHAPE)
        if table.draws[k]:
            after = table.n[k] * run.noises[sum(table.draws[:k])]
        for j in range(min(table.history, k + 1)):
            after = after + table.a[k][j] * states[k - j] + table.b[k][j] * run.outputs[k - j]
        states.append(after)
    return inputs, states[-1]


def assert_alike(table, run):
    inputs, last = replay(table, run)
    assert table.t == pytest.approx(run.times)
    for found, wanted in zip([*inputs, last], [*run.inputs, run.last], strict=True):
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4


@pytest.mark.parametrize(("name", "overrides"), OPTIONS)
def test_a_table_follows_every_spacing_and_sigma_option(name, overrides, monkeypatch):
    table = build_table(name, SD, overrides, STEPS)

    assert_alike(table, Run(name, {**SD, **overrides}, monkeypatch))


@pytest.mark.parametrize("option", SIGMAS)
def test_a_sigma_option_is_not_passed_over_in_silence(option):
    plain = build_table("EulerDiscreteScheduler", SD, {}, STEPS)

    assert build_table("EulerDiscreteScheduler", SD, {option: True}, STEPS).t != plain.t


@pytest.mark.parametrize(("name", "overrides", "mu"), FLOW)
def test_a_table_follows_the_shift_of_a_flow(name, overrides, mu, monkeypatch):
    table = build_table(name, {}, overrides, STEPS, timing=Timing(mu))

    assert_alike(table, Run(name, overrides, monkeypatch, mu=mu))


def test_a_shift_changes_the_table():
    name = "FlowMatchEulerDiscreteScheduler"
    plain, shifted = (build_table(name, {}, {"shift": shift}, STEPS) for shift in (1.0, 3.0))

    assert shifted.t[1] > plain.t[1]


def test_a_shift_that_is_missing_is_an_input_error():
    name, overrides = "FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}

    with pytest.raises(InputError, match=r"refuses 6 steps: .*mu"):
        build_table(name, {}, overrides, STEPS)


@pytest.mark.parametrize("name", ["DDIMScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_a_shift_changes_nothing_where_a_scheduler_does_not_shift(name):
    assert build_table(name, {}, {}, STEPS, timing=Timing(0.5)) == build_table(name, {}, {}, STEPS)


def test_noise_levels_of_a_family_stand_in_for_evenly_spaced_ones():
    levels = (1.0, 0.9, 0.4, 0.1)
    table = build_table("FlowMatchEulerDiscreteScheduler", {}, {}, 4, timing=Timing(None, levels))

    assert table.t == pytest.approx([1000 * level for level in levels])
    assert build_table("DDIMScheduler", SD, {}, 4, timing=Timing(None, levels)).steps == 4


@pytest.mark.parametrize("begin", [2, 4])
@pytest.mark.parametrize("name", BEGUN)
def test_a_table_begins_in_the_middle_where_the_scheduler_does(name, begin, monkeypatch):
    table = build_table(name, SD, {}, STEPS, begin_index=begin)

    run = Run(name, SD, monkeypatch, begin)
    noised = table.add_x0 * run.picture + table.add_noise * run.start
    assert torch.allclose(noised, run.first, rtol=1e-5, atol=1e-5)
    assert_alike(table, run)


@pytest.mark.parametrize("name", ["LCMScheduler", "TCDScheduler"])
def test_a_schedule_that_divides_by_zero_is_an_input_error(name, capfd):
    with pytest.raises(InputError, match="divides by zero"):
        build_table(name, SD, {"rescale_betas_zero_snr": True}, STEPS)

    assert capfd.readouterr().err == ""

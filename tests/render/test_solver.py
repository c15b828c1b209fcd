"""The real schedulers are read off as tables, or refused with the reason."""

from __future__ import annotations

import json
import math

import pytest
import torch

from sdbatch.errors import InputError, SchedulerNotLinearError
from sdbatch.render.schedulers import scheduler_setting
from sdbatch.render.solver import build_table

SD = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "skip_prk_steps": True,
}

HISTORY = {
    "DDIMScheduler": 1,
    "DDPMScheduler": 1,
    "EulerDiscreteScheduler": 1,
    "EulerAncestralDiscreteScheduler": 1,
    "LCMScheduler": 1,
    "TCDScheduler": 1,
    "FlowMatchEulerDiscreteScheduler": 1,
    "HeunDiscreteScheduler": 2,
    "KDPM2DiscreteScheduler": 2,
    "KDPM2AncestralDiscreteScheduler": 2,
    "DPMSolverMultistepScheduler": 2,
    "DPMSolverSinglestepScheduler": 2,
    "DEISMultistepScheduler": 2,
    "UniPCMultistepScheduler": 3,
    "SASolverScheduler": 3,
    "PNDMScheduler": 4,
    "IPNDMScheduler": 4,
}


@pytest.mark.parametrize(("name", "history"), HISTORY.items())
def test_a_table_needs_no_more_history_than_its_scheduler(name, history):
    table = build_table(name, SD, {}, 12)

    assert table.history == history
    assert table.residual < 1e-6


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
@pytest.mark.parametrize("name", ["DDIMScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler"])
def test_any_number_of_steps_has_a_table(name, steps, shapes):
    with open(f"{shapes.path}/scheduler/scheduler_config.json") as file:
        config = json.load(file)

    table = build_table(name, config, {}, steps)

    assert table.steps == (steps + 1 if name == "PNDMScheduler" and steps > 1 else steps)


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler"])
def test_a_second_order_scheduler_has_a_table_step_per_model_call(name):
    assert build_table(name, SD, {}, 6).steps == 11


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("DDIMScheduler", {"clip_sample": True}),
        ("DDPMScheduler", {"clip_sample": True}),
        ("DDIMScheduler", {"clip_sample": True, "clip_sample_range": 50.0}),
        ("DDIMScheduler", {"thresholding": True}),
        ("DPMSolverMultistepScheduler", {"thresholding": True}),
        ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True}),
    ],
)
def test_what_is_not_linear_or_too_large_is_refused(name, overrides):
    with pytest.raises(SchedulerNotLinearError) as caught:
        build_table(name, SD, overrides, 8)

    assert caught.value.scheduler == name
    assert caught.value.reason


def test_an_absent_clip_sample_counts_as_false():
    assert scheduler_setting("DDIMScheduler", SD, {}, 5).config["clip_sample"] is False


def test_noise_is_counted_where_the_scheduler_draws_it():
    assert build_table("DDIMScheduler", SD, {}, 4).draws == (0, 0, 0, 0)
    assert build_table("LCMScheduler", SD, {}, 4).draws == (1, 1, 1, 0)
    ancestral = build_table("EulerAncestralDiscreteScheduler", SD, {}, 4)
    assert ancestral.draws == (1, 1, 1, 1)
    assert ancestral.n[-1] == pytest.approx(0, abs=1e-6)


def test_a_table_may_begin_in_the_middle():
    whole = build_table("DDIMScheduler", SD, {}, 10)

    half = build_table("DDIMScheduler", SD, {}, 10, begin_index=4)

    assert half.t == whole.t[4:]
    assert half.a == pytest.approx(torch.tensor(whole.a[4:]))
    assert half.add_x0**2 + half.add_noise**2 == pytest.approx(1.0, rel=1e-5)
    assert half.add_x0 > whole.add_x0


def test_a_scheduler_that_cannot_add_noise_says_so():
    assert math.isnan(build_table("FlowMatchEulerDiscreteScheduler", {}, {}, 4).add_x0)


def test_equal_settings_give_equal_tables():
    first, second = (build_table("UniPCMultistepScheduler", SD, {}, 7) for _ in range(2))

    assert first == second


def test_an_algorithm_of_the_models_own_scheduler_does_not_spoil_another(shapes):
    with open(f"{shapes.path}/scheduler/scheduler_config.json") as file:
        config = json.load(file)

    assert build_table("SASolverScheduler", config, {}, 4).steps == 4


@pytest.mark.parametrize(
    ("name", "overrides", "steps", "text"),
    [
        ("DDIMSheduler", {}, 4, "diffusers has no"),
        ("EulerDiscretScheduler", {}, 4, "did you mean EulerDiscreteScheduler"),
        ("UNet2DModel", {}, 4, "diffusers has no 'UNet2DModel'"),
        ("DDIMScheduler", {"clip_smaple": True}, 4, "did you mean 'clip_sample'"),
        ("VQDiffusionScheduler", {}, 4, "refuses 4 steps"),
        ("LCMScheduler", {}, 900, "refuses 900 steps"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "nonsense"}, 4, "refuses 4 steps"),
    ],
)
def test_a_wrong_setting_is_an_input_error_in_one_line(name, overrides, steps, text):
    with pytest.raises(InputError, match=text) as caught:
        build_table(name, SD, overrides, steps)

    assert "\n" not in str(caught.value)

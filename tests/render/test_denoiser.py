"""Lanes compute what diffusers' own pipeline computes for each row alone."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.render.drawing import latents_of, make_row, relative_error

pytestmark = pytest.mark.render

SETTINGS = [
    ("DDIMScheduler", {}),
    ("DDIMScheduler", {"timestep_spacing": "leading"}),
    ("DDPMScheduler", {}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("EulerDiscreteScheduler", {"use_beta_sigmas": True}),
    ("EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
    ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    ("DPMSolverMultistepScheduler", {"solver_order": 3, "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    ("DPMSolverSinglestepScheduler", {}),
    ("DPMSolverSinglestepScheduler", {"use_karras_sigmas": True}),
    ("UniPCMultistepScheduler", {}),
    ("UniPCMultistepScheduler", {"solver_order": 3, "use_beta_sigmas": True}),
    ("DEISMultistepScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("KDPM2AncestralDiscreteScheduler", {}),
    ("LMSDiscreteScheduler", {}),
    ("LMSDiscreteScheduler", {"use_karras_sigmas": True}),
    ("PNDMScheduler", {}),
    ("LCMScheduler", {}),
    ("TCDScheduler", {}),
    ("IPNDMScheduler", {}),
    ("SASolverScheduler", {}),
]


def test_every_linear_scheduler_gives_the_pipelines_latents_in_one_mixed_run(renderer, pipeline):
    rows = [
        make_row(i, scheduler=name, scheduler_config=json.dumps(overrides), num_inference_steps=7)
        for i, (name, overrides) in enumerate(SETTINGS)
    ]

    found = latents_of(renderer, rows, lanes=8)

    errors = {
        (row.scheduler, row.scheduler_config): relative_error(found[row.row_index], pipeline(row))
        for row in rows
    }
    assert {key: error for key, error in errors.items() if not error < 1e-4} == {}


@settings(
    max_examples=4,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_random_mix_gives_the_pipelines_latents(renderer, pipeline, data):
    rows = []
    for index in range(data.draw(st.integers(1, 5))):
        name, overrides = data.draw(st.sampled_from(SETTINGS))
        rows.append(
            make_row(
                index,
                scheduler=name,
                scheduler_config=json.dumps(overrides),
                seed=data.draw(st.integers(0, 2**32 - 1)),
                num_inference_steps=data.draw(st.integers(3, 9)),
                guidance_scale=data.draw(st.sampled_from([0.0, 1.0, 1.5, 7.5])),
                negative_prompt=data.draw(st.sampled_from(["", "blue"])),
            )
        )

    found = latents_of(renderer, rows, lanes=data.draw(st.integers(1, 6)))

    for row in rows:
        assert relative_error(found[row.row_index], pipeline(row)) < 1e-4


def test_sizes_off_the_unets_own_step_give_the_pipelines_latents(renderer, pipeline, shapes):
    row = make_row(1, width_px=32 + shapes.size_multiple_px, height_px=32)

    found = latents_of(renderer, [row], lanes=4)

    assert relative_error(found[1], pipeline(row)) < 1e-4


def test_a_single_lane_carries_a_guided_row_in_two_passes(renderer):
    row = make_row(0)
    room = renderer.make_lanes(renderer.prepare(row, []), 1)
    room.admit(renderer.prepare(row, []))

    passes = 0
    finished = []
    while not finished:
        finished, passes = room.run_pass(), passes + 1

    assert passes == 2 * row.num_inference_steps


def test_lanes_stay_full_when_guided_and_unguided_rows_mix(renderer):
    rows = [make_row(i, guidance_scale=(1.0, 3.0)[i % 2]) for i in range(6)]
    items = [renderer.prepare(row, []) for row in rows]
    room = renderer.make_lanes(items[0], 4)
    while room.free:
        room.admit(items.pop(0))

    room.run_pass()
    first = room.real_lanes
    room.run_pass()

    assert (first, room.real_lanes) == (4, 4)


def test_numbers_left_by_an_earlier_row_do_not_reach_the_next_one_in_its_slot(renderer):
    row = make_row(3)
    clean = latents_of(renderer, [row], lanes=2)[3]
    poisoned = renderer.prepare(make_row(0, guidance_scale=float("inf")), [])
    room = renderer.make_lanes(poisoned, 2)
    room.admit(poisoned)
    while room.busy_lanes:
        room.run_pass()

    room.admit(renderer.prepare(row, []))
    finished = []
    while not finished:
        finished = room.run_pass()

    assert torch.equal(finished[0].latents, clean)

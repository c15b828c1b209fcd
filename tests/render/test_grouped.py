"""Schedulers that are no table step themselves, and rows are as much their own as in lanes."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
import torch

from sdbatch.errors import DeviceMemoryError
from sdbatch.render.grouped import Group, GroupedRow
from sdbatch.results import RenderedImage, RowFailure
from tests.render.drawing import latents_of, make_row, pictures, relative_error
from tests.render.spoiling import Culprit, Forgetful

pytestmark = pytest.mark.render

UNTABLED = [
    ("DDIMScheduler", {"clip_sample": True}),
    ("DDIMScheduler", {"thresholding": True}),
    ("DDPMScheduler", {"clip_sample": True}),
    ("DPMSolverMultistepScheduler", {"thresholding": True}),
    ("DPMSolverMultistepScheduler", {"thresholding": True, "algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverSinglestepScheduler", {"thresholding": True}),
    ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "epsilon"}),
    ("HeunDiscreteScheduler", {"clip_sample": True}),
    ("LCMScheduler", {"clip_sample": True}),
    ("PNDMScheduler", {"skip_prk_steps": False}),
    ("SASolverScheduler", {"thresholding": True}),
    ("UniPCMultistepScheduler", {"thresholding": True}),
]

CLIPPED = {"scheduler": "DDIMScheduler", "scheduler_config": '{"clip_sample": true}'}
NOISY = {"scheduler": "DDPMScheduler", "scheduler_config": '{"clip_sample": true}'}
THRESHOLDED = {
    "scheduler": "DPMSolverMultistepScheduler",
    "scheduler_config": '{"thresholding": true}',
}


def grouped_rows(count: int) -> list:
    """Rows of three settings without a table, and one with."""
    return [
        make_row(
            i,
            guidance_scale=(3.0, 7.5, 1.0)[i // 4 % 3],
            **(CLIPPED, NOISY, THRESHOLDED, {})[i % 4],
        )
        for i in range(count)
    ]


@pytest.mark.parametrize(("name", "overrides"), UNTABLED)
def test_a_scheduler_without_a_table_gives_the_pipelines_latents(
    renderer, pipeline, name, overrides
):
    setting = {"scheduler": name, "scheduler_config": json.dumps(overrides)}
    rows = [make_row(i, guidance_scale=3.0 + i, num_inference_steps=5, **setting) for i in range(2)]

    found = latents_of(renderer, rows, lanes=4)

    assert isinstance(renderer.prepare(rows[0], []), GroupedRow)
    assert all(relative_error(found[i], pipeline(rows[i])) < 1e-4 for i in range(2))


def test_rows_without_guidance_give_the_pipelines_latents(renderer, pipeline):
    rows = [make_row(i, guidance_scale=1.0, **NOISY) for i in range(3)]

    found = latents_of(renderer, rows, lanes=4)

    assert all(relative_error(found[i], pipeline(rows[i])) < 1e-4 for i in range(3))


@pytest.mark.parametrize("setting", [CLIPPED, NOISY, THRESHOLDED])
def test_latents_are_bit_equal_whatever_the_neighbours_and_the_place(renderer, setting):
    rows = [make_row(i, width_px=40, **setting) for i in range(6)]
    wanted = {i: latents_of(renderer, [rows[i]], lanes=6)[i] for i in range(6)}

    for order in ([0, 1, 2], [2, 0, 1], [5, 2], [4, 3, 1]):
        found = latents_of(renderer, [rows[i] for i in order], lanes=6)
        assert all(torch.equal(found[i], wanted[i]) for i in order)


def test_a_picture_is_bit_equal_in_any_mix_of_settings_and_order(renderer):
    rows = grouped_rows(12)
    wanted = pictures(renderer.render(rows))
    shuffle = random.Random(2)

    for count in (12, 5, 1):
        drawn = pictures(renderer.render(shuffle.sample(rows, count)))
        assert len(drawn) == count
        assert all(np.array_equal(drawn[index], wanted[index]) for index in drawn)


def test_a_row_that_was_not_finite_leaves_nothing_behind(renderer):
    clean = make_row(1, **CLIPPED)
    wanted = latents_of(renderer, [clean], lanes=4)[1]
    poisoned = [make_row(i, guidance_scale=float("inf"), **NOISY) for i in (2, 3)]
    room = renderer.make_lanes(renderer.prepare(poisoned[0], []), 4)
    again = make_row(1, **NOISY)

    for row in poisoned:
        room.admit(renderer.prepare(row, []))
    while room.busy_lanes:
        room.run_pass()
    room.admit(renderer.prepare(again, []))
    finished = []
    while not finished:
        finished = room.run_pass()

    assert torch.equal(finished[0].latents, latents_of(renderer, [again], lanes=4)[1])
    assert torch.equal(latents_of(renderer, [clean], lanes=4)[1], wanted)


def test_a_single_lane_carries_a_guided_row_in_two_passes(renderer, pipeline):
    row = make_row(0, **THRESHOLDED)
    room = renderer.make_lanes(renderer.prepare(row, []), 1)
    room.admit(renderer.prepare(row, []))

    passes, finished = 0, []
    while not finished:
        finished, passes = room.run_pass(), passes + 1

    assert passes == 2 * row.num_inference_steps
    assert relative_error(finished[0].latents, pipeline(row)) < 1e-4


def test_a_group_takes_no_row_after_its_first_step_and_any_after_its_last(renderer):
    items = [renderer.prepare(make_row(i, **CLIPPED), []) for i in range(3)]
    room = renderer.make_lanes(items[0], 4)
    assert isinstance(room, Group)

    room.admit(items[0])
    before = room.free
    room.run_pass()
    during = room.free
    while room.busy_lanes:
        room.run_pass()

    assert (before, during, room.free) == (True, False, True)


def test_counters_tell_steps_lanes_and_padding(load):
    fresh = load(p32x32=4)

    list(fresh.render([make_row(0, **CLIPPED)]))

    assert fresh.counters.row_steps == 3
    assert fresh.counters.lane_steps == 6
    assert fresh.counters.lane_slots == 12


def test_rows_of_equal_settings_share_their_passes(load):
    fresh = load(p32x32=4)

    list(fresh.render([make_row(i, **(CLIPPED, NOISY)[i % 2]) for i in range(8)]))

    assert fresh.counters.lane_steps == fresh.counters.lane_slots


def test_none_lets_a_group_go_on_with_the_rows_it_has(renderer):
    rows, given = grouped_rows(6), {}

    def feed():
        for row in rows:
            yield row
            while len(given) < row.row_index:  # nothing more until earlier rows are done
                yield None

    for result in renderer.render(feed()):
        given[result.row.row_index] = result

    assert sorted(given) == list(range(6))


def test_the_row_that_fails_takes_no_other_of_its_group_with_it(renderer, spoil):
    rows = grouped_rows(9)
    rows[4] = make_row(4, prompt="the culprit", **CLIPPED)
    wanted = pictures(renderer.render(rows))
    marked = renderer.text_encoder.encode(["the culprit"])[0].embeds
    spoil(lambda model: Culprit(model, marked, ValueError("no such picture")))

    results = list(renderer.render(rows))

    failures = [result for result in results if isinstance(result, RowFailure)]
    assert [failure.row.row_index for failure in failures] == [4]
    drawn = pictures(result for result in results if isinstance(result, RenderedImage))
    assert sorted(drawn) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert all(np.array_equal(drawn[index], wanted[index]) for index in drawn)


def test_a_scheduler_that_fails_in_a_step_fails_rows_and_not_the_run(renderer, monkeypatch):
    from diffusers import DDIMScheduler

    def step(*_, **__):
        raise ValueError("not today")

    rows = [make_row(0, **CLIPPED), make_row(1, **CLIPPED), make_row(2)]
    for row in rows:
        renderer.prepare(row, [])
    monkeypatch.setattr(DDIMScheduler, "step", step)

    results = {result.row.row_index: result for result in renderer.render(rows)}

    assert [results[i].error_message for i in (0, 1)] == ["not today", "not today"]
    assert isinstance(results[2], RenderedImage)


def test_out_of_memory_starts_a_group_again_at_half_the_lanes(renderer, spoil):
    rows = [make_row(i, **THRESHOLDED) for i in range(6)]
    spoil(lambda model: Forgetful(model, 1))

    results = list(renderer.render(rows))

    lanes = Counter(result.num_lanes for result in results)
    assert sorted(result.row.row_index for result in results) == list(range(6))
    assert lanes == {2: 2, 4: 4}


def test_a_groups_second_out_of_memory_is_the_last(renderer, spoil):
    spoil(lambda model: Forgetful(model, 2))

    with pytest.raises(DeviceMemoryError, match="2 lanes"):
        list(renderer.render([make_row(i, **THRESHOLDED) for i in range(4)]))

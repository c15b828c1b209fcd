"""Rows go in, the same rows come out, whatever happens on the way."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch

from sdbatch.errors import DeviceMemoryError, RenderError
from sdbatch.render import flow
from sdbatch.results import RenderedImage, RowFailure
from tests.render.drawing import make_row, pictures
from tests.render.spoiling import Culprit, Forgetful

pytestmark = pytest.mark.render

SCHEDULERS = ("DDIMScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler")


def mixed_rows(count: int) -> list:
    return [
        make_row(
            i,
            num_inference_steps=2 + i % 3,
            guidance_scale=(1.0, 3.0, 7.5)[i % 3],
            scheduler=SCHEDULERS[i // 2 % 3],
        )
        for i in range(count)
    ]


def test_a_picture_is_bit_equal_whatever_its_neighbours_order_and_lane(renderer):
    rows = mixed_rows(10)
    wanted = pictures(renderer.render(rows))
    shuffle = random.Random(1)

    for count in (10, 7, 3, 1):
        some = shuffle.sample(rows, count)
        drawn = pictures(renderer.render(some))
        assert len(drawn) == count
        assert all(np.array_equal(drawn[index], wanted[index]) for index in drawn)


def test_a_second_renderer_draws_the_same_pixels(renderer, load):
    rows = mixed_rows(5)
    wanted = pictures(renderer.render(rows))

    drawn = pictures(load(p32x32=4).render(rows[::-1]))

    assert all(np.array_equal(drawn[index], wanted[index]) for index in wanted)


def test_a_foreign_thread_setting_does_not_reach_the_pixels(renderer):
    wanted = pictures(renderer.render(mixed_rows(3)))
    torch.set_num_threads(2)

    drawn = pictures(renderer.render(mixed_rows(3)))

    assert torch.get_num_threads() == 1
    assert all(np.array_equal(drawn[index], wanted[index]) for index in wanted)


def test_one_lane_is_enough_for_guided_rows(load):
    single = load(p32x32=1)

    drawn = pictures(single.render(mixed_rows(4)))

    assert sorted(drawn) == [0, 1, 2, 3]
    assert single.counters.lane_slots == single.counters.lane_steps


def test_rows_of_several_sizes_all_come_back_at_their_size(renderer):
    rows = [make_row(i, width_px=(32, 40)[i % 2]) for i in range(7)]

    drawn = pictures(renderer.render(rows))

    assert {index: drawn[index].shape for index in drawn} == {
        i: (32, (32, 40)[i % 2], 3) for i in range(7)
    }


def test_a_size_without_settled_lanes_settles_its_own(load):
    fresh = load()

    assert len(pictures(fresh.render([make_row(0)]))) == 1
    assert fresh.lanes == {"32x32": 16}


def test_counters_tell_steps_lanes_and_padding(load):
    fresh = load(p32x32=4)

    list(fresh.render([make_row(0, guidance_scale=3.0), make_row(1, guidance_scale=1.0)]))

    assert fresh.counters.row_steps == 6
    assert fresh.counters.lane_steps == 9
    assert fresh.counters.lane_slots == 12
    spent = dict(fresh.counters.phase_seconds)
    assert spent.pop("solvers") >= 0  # found by another renderer of this process, perhaps
    assert all(seconds > 0 for seconds in spent.values())


def test_none_lets_the_rows_in_flight_go_on(renderer):
    rows = mixed_rows(6)
    asked, given = [], {}

    def feed():
        for row in rows:
            asked.append(len(given))
            yield row
            while len(given) < row.row_index:  # nothing more until earlier rows are done
                yield None

    for result in renderer.render(feed()):
        given[result.row.row_index] = result

    assert sorted(given) == list(range(6))
    assert asked[-1] >= 4


def test_a_row_is_pulled_only_when_there_is_room(renderer):
    pulled = []

    def feed():
        for row in mixed_rows(200):
            pulled.append(row)
            yield row

    results = renderer.render(feed())
    next(results)
    results.close()

    assert len(pulled) <= 40


def test_no_rows_give_no_pictures(renderer):
    assert list(renderer.render([])) == []


def test_the_row_that_fails_takes_no_other_with_it(renderer, spoil):
    rows = mixed_rows(7)
    rows[3] = make_row(3, prompt="the culprit", num_inference_steps=2)
    wanted = pictures(renderer.render(rows))
    marked = renderer.text_encoder.encode(["the culprit"])[0].embeds
    spoil(lambda model: Culprit(model, marked, ValueError("no such picture")))

    results = list(renderer.render(rows))

    failures = [result for result in results if isinstance(result, RowFailure)]
    assert [failure.row.row_index for failure in failures] == [3]
    assert failures[0].error_type == "ValueError"
    assert failures[0].error_message == "no such picture"
    assert "in predict" in failures[0].traceback
    drawn = pictures(result for result in results if isinstance(result, RenderedImage))
    assert sorted(drawn) == [0, 1, 2, 4, 5, 6]
    assert all(np.array_equal(drawn[index], wanted[index]) for index in drawn)


def test_out_of_memory_starts_the_rows_in_flight_again_at_half_the_lanes(renderer, spoil):
    spoil(lambda model: Forgetful(model, 1))

    results = list(renderer.render(mixed_rows(8)))

    assert sorted(result.row.row_index for result in results) == list(range(8))
    lanes = Counter(result.num_lanes for result in results)
    assert set(lanes) == {2, 4}
    assert lanes[2] <= 4


def test_the_second_out_of_memory_is_the_last(renderer, spoil):
    spoil(lambda model: Forgetful(model, 2))

    with pytest.raises(DeviceMemoryError, match="2 lanes"):
        list(renderer.render(mixed_rows(8)))


def test_strict_pixels_fail_the_rows_in_flight_and_draw_the_others_at_the_planned_lanes(
    renderer, spoil, monkeypatch
):
    rows = mixed_rows(8)
    wanted = pictures(renderer.render(rows))
    monkeypatch.setattr(renderer, "strict_pixels", True)
    spoil(lambda model: Forgetful(model, 1))

    results = list(renderer.render(rows))

    failed = [result for result in results if isinstance(result, RowFailure)]
    drawn = pictures(result for result in results if isinstance(result, RenderedImage))
    assert 2 <= len(failed) <= 4
    assert len(failed) + len(drawn) == 8
    assert {one.error_type for one in failed} == {"DeviceMemoryError"}
    assert all("strict_pixels" in one.error_message for one in failed)
    assert all(np.array_equal(drawn[index], wanted[index]) for index in drawn)


def test_strict_pixels_end_the_worker_at_the_second_shortage_too(renderer, spoil, monkeypatch):
    monkeypatch.setattr(renderer, "strict_pixels", True)
    spoil(lambda model: Forgetful(model, 2))

    with pytest.raises(DeviceMemoryError, match="4 lanes"):
        list(renderer.render(mixed_rows(8)))


def test_a_broken_device_is_no_rows_fault(renderer, spoil, monkeypatch):
    marked = renderer.text_encoder.encode([make_row(0).prompt])[0].embeds
    spoil(lambda model: Culprit(model, marked, RuntimeError("illegal memory access")))
    monkeypatch.setattr(flow, "is_broken", lambda error: True)

    with pytest.raises(RenderError, match="the device failed"):
        list(renderer.render([make_row(0)]))


def test_a_latent_that_is_not_finite_fails_its_row_alone(renderer):
    rows = [make_row(0), make_row(1, guidance_scale=float("inf")), make_row(2)]

    results = {result.row.row_index: result for result in renderer.render(rows)}

    assert isinstance(results[0], RenderedImage)
    assert isinstance(results[2], RenderedImage)
    assert results[1].error_type == "NonFiniteError"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scheduler": "EulerDiscretScheduler"}, "did you mean EulerDiscreteScheduler"),
        ({"scheduler_config": "{'a': 1}"}, "no JSON"),
        ({"scheduler_config": "[1]"}, "must be a JSON object"),
        ({"scheduler_config": '{"clip_smaple": true}'}, "did you mean 'clip_sample'"),
        ({"width_px": 33}, "multiples of 4"),
    ],
)
def test_a_row_that_cannot_be_drawn_fails_with_the_reason(renderer, changes, text):
    results = list(renderer.render([make_row(0, **changes), make_row(1)]))

    failed = {r.row.row_index: r for r in results if isinstance(r, RowFailure)}
    assert list(failed) == [0]
    assert text in failed[0].error_message
    assert len(results) == 2


def test_a_prompt_that_was_cut_is_marked(renderer):
    rows = [make_row(0, prompt="red circle " * 40), make_row(1)]

    cut = {result.row.row_index: result.prompt_truncated for result in renderer.render(rows)}

    assert cut == {0: True, 1: False}


def test_a_decode_that_fails_takes_one_picture_with_it(renderer, monkeypatch):
    rows = [make_row(i) for i in range(4)]
    real = renderer.image_decoder.decode
    seeds = []

    def decode(latents):
        if not seeds:
            seeds.append(latents[2])
        if any(each is seeds[0] for each in latents):
            raise ValueError("no pixels")
        return real(latents)

    monkeypatch.setattr(renderer.image_decoder, "decode", decode)
    monkeypatch.setattr(renderer.image_decoder, "chunk_size", lambda latents: 4)

    results = list(renderer.render(rows))

    assert Counter(type(result).__name__ for result in results) == {
        "RenderedImage": 3,
        "RowFailure": 1,
    }

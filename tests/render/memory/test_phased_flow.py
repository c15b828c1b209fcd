"""One room's model on the device at a time: the same pixels, few changes, bounded windows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sdbatch.errors import DeviceMemoryError
from sdbatch.model_specs import RenderSpec, Speed
from sdbatch.render.loading import load_renderer
from sdbatch.render.memory import memory_rooms, phased_flow
from sdbatch.render.memory.memory_rooms import Room
from sdbatch.results import RenderedImage, RowFailure
from tests.render.drawing import make_row, pictures

LANES = {"32x32": 4, "40x32": 4}
ROWS = [
    make_row(0),
    make_row(1, guidance_scale=1.0, num_inference_steps=5),
    make_row(2, width_px=40, scheduler="EulerAncestralDiscreteScheduler"),
    make_row(3, scheduler="DPMSolverMultistepScheduler", num_inference_steps=6),
    make_row(4, width_px=40, guidance_scale=1.0),
    make_row(5, scheduler_config='{"thresholding": true}', scheduler="DDIMScheduler"),
    make_row(6, prompt="a (red:1.2) circle", prompt_syntax="a1111", negative_prompt="blue"),
    make_row(7, negative_prompt="a green star"),
]


@pytest.fixture
def empty_elsewhere(monkeypatch):
    """Rooms that are not on the "device" have no weights at all: any use of them fails."""
    trunk = memory_rooms._Trunk

    def bring(self):
        for tensor, kept in self._kept:
            tensor.data = kept.clone()

    def leave(self):
        for tensor, _ in self._kept:
            tensor.data = torch.empty(0)

    monkeypatch.setattr(trunk, "bring", bring)
    monkeypatch.setattr(trunk, "leave", leave)


@pytest.fixture
def in_mode(shapes):
    def load(memory, **changes):
        spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", LANES, 1, memory=memory)
        return load_renderer(replace(spec, **changes), [])

    return load


@pytest.fixture(scope="module")
def resident(shapes):
    spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", LANES, 1, memory="resident")
    return pictures(load_renderer(spec, []).render(ROWS))


def demand_equal(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


def test_rooms_one_at_a_time_give_the_pixels_of_all_at_once(in_mode, resident, empty_elsewhere):
    renderer = in_mode("rooms")

    demand_equal(pictures(renderer.render(ROWS)), resident)
    assert renderer.residence.swaps == len(Room)  # one window, each room entered once
    assert renderer.counters.phase_seconds["swap"] > 0
    assert renderer.counters.lane_steps < renderer.counters.lane_slots  # lanes were shared


def test_windows_change_no_pixels_and_rows_that_wait_are_bounded(
    in_mode, resident, empty_elsewhere, monkeypatch
):
    monkeypatch.setattr(phased_flow, "WINDOW_BYTES", 40_000)
    renderer = in_mode("rooms")
    pulled = 0

    def feed():
        nonlocal pulled
        for row in ROWS:
            pulled += 1
            yield row

    results = renderer.render(feed())
    found = [next(results)]
    while not isinstance(found[-1], RenderedImage):
        found.append(next(results))
    assert renderer.residence.swaps == 3
    found += results
    assert renderer.residence.swaps > 3
    demand_equal(pictures(found), resident)


def test_layers_that_pass_by_give_the_pixels_of_all_at_once(in_mode, resident):
    demand_equal(pictures(in_mode("offload").render(ROWS)), resident)


def test_a_window_lasts_as_long_as_changing_rooms_is_a_small_part_of_it(in_mode, monkeypatch):
    renderer = in_mode("rooms")
    flow = phased_flow.PhasedFlow(renderer, [])
    monkeypatch.setattr(phased_flow.time, "monotonic", lambda: 1000.0)

    renderer.counters.phase_seconds["swap"] = 2.0
    flow._opened = (898.0, 0.0, 10)  # 10 rows in 100 s of drawing, and 2 s of moving
    flow._measure()
    assert flow._max_rows == 10  # 2 s are 2 % of 100 s

    flow._opened = (990.0, 1.99, 10)
    flow._measure()
    assert flow._max_rows == 60  # never shorter than a minute

    flow._opened = (0.0, 2.0, 1)
    flow._measure()
    assert flow._max_rows == 1


def test_a_window_that_lasts_too_long_is_decoded_in_between(in_mode, resident, monkeypatch):
    monkeypatch.setattr(phased_flow, "MAX_WINDOW_S", 0.0)
    renderer = in_mode("rooms")
    first = next(renderer.render(ROWS))

    assert isinstance(first, RenderedImage)
    assert renderer.residence.swaps == len(Room)  # with most of the window's rows undrawn
    assert renderer.counters.row_steps < sum(row.num_inference_steps for row in ROWS) / 2
    demand_equal(pictures(in_mode("rooms").render(ROWS)), resident)


def test_a_renderer_that_leaves_decodes_what_is_drawn_and_does_not_wait_for_its_window(
    in_mode, resident
):
    renderer = in_mode("rooms")
    passes = []

    def feed():
        yield from ROWS
        while not renderer.leaving.is_set():
            yield None
        raise AssertionError("asked once more after it was told to leave")

    real = phased_flow.PhasedFlow._run_pass

    def run_pass(flow):
        real(flow)
        passes.append(len(flow._denoised))
        if flow._denoised:
            renderer.leave()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phased_flow.PhasedFlow, "_run_pass", run_pass)
        found = pictures(renderer.render(feed()))

    assert 0 < len(found) < len(ROWS) / 2
    assert len(passes) < 15
    demand_equal(found, {key: resident[key] for key in found})


def test_what_a_picture_waits_for_its_window_is_no_part_of_its_time(in_mode, monkeypatch):
    renderer = in_mode("rooms")
    now = [1000.0]
    monkeypatch.setattr(phased_flow.time, "monotonic", lambda: now[0])
    enter = renderer.residence.enter

    def slow(room):
        now[0] += 500.0 if room is Room.PICTURE else 0.0  # others of the window are drawn
        enter(room)

    monkeypatch.setattr(renderer.residence, "enter", slow)
    (image,) = renderer.render(ROWS[:1])

    assert image.latency_ms < 600_000.0


def test_a_feed_that_has_nothing_right_now_closes_the_window(in_mode, resident):
    def feed():
        yield ROWS[0]
        yield None
        yield None
        yield from ROWS[1:]

    demand_equal(pictures(in_mode("rooms").render(feed())), resident)


def test_a_row_that_cannot_be_drawn_fails_alone(in_mode):
    rows = [make_row(0), make_row(1, width_px=33), make_row(2)]

    results = list(in_mode("rooms").render(rows))

    failed = [one.row.row_index for one in results if isinstance(one, RowFailure)]
    assert failed == [1]
    assert len(results) == 3


def test_a_room_that_does_not_fit_alone_says_so(in_mode, monkeypatch):
    renderer = in_mode("rooms")

    def bring(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(memory_rooms._Trunk, "bring", bring)
    with pytest.raises(DeviceMemoryError, match="the text_encoder alone does not fit"):
        list(renderer.render(ROWS[:1]))


@pytest.mark.parametrize("switch", ["deepcache:2", "fp8"])
def test_lossy_switches_keep_their_pixels_in_rooms(in_mode, switch):
    speed, rows = Speed(lossy=switch), ROWS[:2]

    wanted = pictures(in_mode("resident", speed=speed).render(rows))

    demand_equal(pictures(in_mode("rooms", speed=speed).render(rows)), wanted)

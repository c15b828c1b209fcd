"""A benchmark of the embedded architecture, from the door to the figures."""

import json

import pytest

from sdbatch import api
from sdbatch.engine.bench_report import Arithmetic, Spent, plain_rates, rates
from sdbatch.errors import InputError, RenderError
from sdbatch.render.memory import memory_need
from sdbatch.render.renderer import LaneRenderer
from sdbatch.results import RowFailure

pytestmark = pytest.mark.render
QUICK = {"rows": 4, "num_inference_steps": 3, "size": "32x32", "batch_size": 4, "rounds": 2}


@pytest.fixture(scope="module")
def found():
    return api.bench(arch="shapes", random_weights=True, mix=True, compare="diffusers", **QUICK)


def test_every_way_is_measured_in_every_round(found):
    names = [one.name for one in found.measured]

    assert names == ["uniform", "mixed", "diffusers one by one", "diffusers in batches"]
    assert all(len(one.seconds) == 2 and min(one.seconds) > 0 for one in found.measured)
    assert all(one.images == 4 for one in found.measured)


def test_steps_and_occupancy_are_those_of_the_rows(found):
    uniform = found.measured[0]

    assert uniform.occupancy == 1.0
    assert uniform.row_steps_per_s == pytest.approx(3 * uniform.images_per_s, rel=0.3)
    assert 0 < found.measured[1].occupancy <= 1.0
    assert {"text_encode", "denoise", "decode"} <= set(uniform.phase_seconds)


def test_ratios_compare_the_same_rows(found):
    assert list(found.ratios) == [
        "mixed / uniform, row_steps per second",
        "mixed / uniform, lane_steps per second",
        "mixed / diffusers one by one, images per second",
        "mixed / diffusers in batches, images per second",
    ]
    assert all(value > 0 for value in found.ratios.values())


def test_memory_holds_the_weights_and_arithmetic_is_a_share_of_a_measured_peak(found):
    assert found.memory.peak > 0
    assert found.memory.expected > found.memory.weights > 15e6
    assert found.arithmetic.flops_per_pass > 1e8
    assert found.measured[0].utilisation == pytest.approx(
        found.measured[0].flops_per_s / found.arithmetic.peak_flops_per_s
    )


def test_a_report_is_json_and_lines(found):
    assert json.loads(json.dumps(found.to_dict()))["env"]["device"] in ("cpu", "cuda")
    said = found.describe()
    for word in ("images/s", "row_steps/s", "occupancy", "GB at most", "measured here"):
        assert word in said


def test_a_real_model_is_measured_with_its_own_weights(report):
    found = api.bench(model="shapes", report=report, **QUICK | {"rounds": 1})

    assert (found.model, found.random_weights) == ("shapes", False)
    assert [one.name for one in found.measured] == ["uniform"]
    assert found.ratios == {}
    assert report.lines[0].startswith("loading shapes")
    assert "round 1 of 1: uniform" in report.lines[-1]


def test_a_row_that_fails_ends_the_benchmark(monkeypatch):
    def render(self, rows):
        yield RowFailure(next(iter(rows)), "ValueError", "no such\nthing")

    monkeypatch.setattr(LaneRenderer, "render", render)

    with pytest.raises(RenderError, match=r"row 0 .* failed, no such thing"):
        api.bench(**QUICK)


def test_figures_are_medians_over_the_rounds():
    spent = [
        Spent(seconds, row_steps=60, lane_steps=120, lane_slots=160, phase_seconds={"denoise": s})
        for seconds, s in ((2.0, 1.5), (1.0, 0.5), (4.0, 3.0))
    ]
    one = rates("uniform", 10, spent, 8, Arithmetic(1000, 20_000.0, 1024))

    assert one.images_per_s == 5.0
    assert one.row_steps_per_s == 30.0
    assert one.occupancy == 0.75
    assert one.flops_per_s == 10_000.0
    assert one.utilisation == 0.5
    assert one.phase_seconds == {"denoise": 1.5}
    assert plain_rates("diffusers one by one", 10, [2.0, 1.0, 4.0]).images_per_s == 5.0


def test_a_model_is_measured_as_it_is_held_and_what_that_takes_is_expected():
    asked = QUICK | {"rounds": 1, "arch": "shapes", "random_weights": True, "device": "cpu"}
    whole, rooms = (api.bench(**asked, memory=memory) for memory in ("resident", "rooms"))

    assert "swap" in rooms.measured[0].phase_seconds
    assert "swap" not in whole.measured[0].phase_seconds
    assert rooms.memory.expected < whole.memory.expected


def test_a_way_of_holding_a_model_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory_need, "free_bytes", lambda _: 1000)

    with pytest.raises(
        InputError, match=r"shapes with --memory rooms needs 0\.\d GB, cpu has 0\.0"
    ):
        api.bench(memory="rooms", **QUICK)

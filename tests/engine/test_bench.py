"""What a benchmark draws is decided before anything is loaded."""

import subprocess
import sys

import pytest

from sdbatch.engine.bench import MIX_SCHEDULERS, BenchAsk, plan_bench
from sdbatch.errors import InputError
from sdbatch.records import ANY_SIZE


def test_a_benchmark_without_options_is_of_the_embedded_model():
    plan = plan_bench(BenchAsk())

    assert plan.architecture.name == "shapes"
    assert plan.defaults.num_inference_steps == 12
    assert plan.spec.lanes == {}
    assert not plan.random_weights


def test_options_win_over_the_models_defaults():
    ask = BenchAsk(
        arch="sd15", random_weights=True, num_inference_steps=7, size="256x128", batch_size=6
    )
    plan = plan_bench(ask)
    rows = plan.uniform(6)

    assert plan.spec.lanes == {ANY_SIZE: 6}
    assert {(r.num_inference_steps, r.width_px, r.height_px) for r in rows} == {(7, 256, 128)}
    assert {r.guidance_scale for r in rows} == {7.5}


def test_rows_left_open_fill_the_lanes_a_few_times():
    assert len(plan_bench(BenchAsk()).uniform(16)) == 32
    assert len(plan_bench(BenchAsk(rows=5)).uniform(16)) == 5


def test_mixed_rows_are_as_many_longest_first_and_the_same_every_time():
    plan = plan_bench(BenchAsk(rows=400, num_inference_steps=13))
    rows = plan.mixed(16)
    steps = [row.num_inference_steps for row in rows if row.guided]

    assert len(rows) == 400
    assert {row.scheduler for row in rows} == set(MIX_SCHEDULERS)
    assert (min(steps), max(steps)) == (6, 20)
    assert steps == sorted(steps, reverse=True)
    assert 1 <= min(r.guidance_scale for r in rows) < max(r.guidance_scale for r in rows) <= 9
    assert rows == plan.mixed(16)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"arch": "sd15"}, "--random-weights"),
        ({"arch": "sd15", "model": "shapes"}, "not both"),
        ({"random_weights": True}, "--arch"),
        ({"arch": "flux", "random_weights": True}, "its shapes do not ship"),
        ({"arch": "flux"}, "its shapes do not ship"),
        ({"arch": "sdxl"}, "--random-weights"),
        ({"model": "fake"}, "nothing to time"),
        ({"compare": "others"}, "only 'diffusers'"),
        ({"compare": "diffusers", "memory": "rooms"}, "holds all of a model, not --memory rooms"),
        ({"memory": "room"}, "use one of auto, resident, rooms, offload"),
        ({"size": "60x64"}, "multiples of 8"),
        ({"size": "64"}, "width x height"),
        ({"num_inference_steps": 2000}, "at most 1000"),
        ({"num_inference_steps": 0}, "--steps 0"),
        ({"rows": 0}, "--rows 0"),
        ({"rounds": 0}, "--rounds 0"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(asked, said):
    with pytest.raises(InputError, match=said) as caught:
        plan_bench(BenchAsk(**asked))

    assert "\n" not in str(caught.value)


def test_planning_needs_no_torch_and_no_ray():
    code = (
        "import sys; sys.modules.update(torch=None, ray=None, diffusers=None)\n"
        "from sdbatch.engine.bench import BenchAsk, plan_bench\n"
        "import sdbatch.engine.bench_run\n"
        "print(len(plan_bench(BenchAsk(arch='sd21', random_weights=True)).mixed(8)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout == "16\n", done.stderr

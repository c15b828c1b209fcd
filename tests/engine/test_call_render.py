"""How a model is held is a matter of each call: the plan and the pixels are the same."""

from dataclasses import replace

import pytest

from sdbatch import api
from sdbatch.engine.call_render import demand_drawable
from sdbatch.errors import InputError, JobError
from sdbatch.render.weights.model_facts import find_model

INLINE = {"engine": "inline", "size": "32x32", "num_inference_steps": 2}
ROWS = [{"prompt": f"a red circle on white {i}", "seed": i} for i in range(3)]


def hashes(out):
    return api.open_dataset(out).to_table(["key", "pixel_sha256", "row_hash"]).to_pylist()


def test_every_way_of_holding_a_model_makes_the_same_plan_and_pictures(tmp_path):
    summaries = {
        memory: api.render(ROWS, tmp_path / memory, memory=memory, **INLINE)
        for memory in ("resident", "rooms", "offload")
    }

    assert hashes(tmp_path / "resident") == hashes(tmp_path / "rooms")
    assert hashes(tmp_path / "resident") == hashes(tmp_path / "offload")
    plans = {memory: api.plan(ROWS, tmp_path / memory, **INLINE).plan_id for memory in summaries}
    assert len(set(plans.values())) == 1
    assert summaries["rooms"].phase_seconds["swap"] >= 0
    assert "swap" not in summaries["resident"].phase_seconds


def test_a_call_says_for_itself_and_else_goes_on_as_before(tmp_path):
    api.render(ROWS, tmp_path / "out", memory="rooms", **INLINE)

    assert api.plan(ROWS, tmp_path / "out", **INLINE).settings["render.memory"].value == "rooms"
    said = api.plan(ROWS, tmp_path / "out", memory="resident", **INLINE)
    assert said.settings["render.memory"].value == "resident"


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"memory": "offload", "compile": True}, "render.compile"),
        ({"memory": "offload", "settings": {"render.lossy": "fp8"}}, "render.lossy"),
        ({"memory": "offload", "quantize": "nf4"}, "nf4"),
        ({"quantize": "nf4", "device": "cpu"}, "nf4"),
    ],
)
def test_what_does_not_go_together_is_refused_in_plan(tmp_path, options, wrong):
    with pytest.raises(JobError, match=wrong) as refused:
        api.plan(ROWS, tmp_path / "out", **options)
    assert "\n" not in str(refused.value)


def test_a_loaded_model_is_held_as_it_was_asked_for():
    row = {"prompt": "a red circle", "seed": 1, "width": 32, "height": 32}
    row |= {"num_inference_steps": 2}
    usual, rooms = (api.load_model(memory=memory, batch_size=2) for memory in ("auto", "rooms"))

    (wanted,), (found,) = usual.stream([row]), rooms.stream([row])
    assert rooms.renderer.residence.phased
    assert not usual.renderer.residence.phased
    assert (found.pixels == wanted.pixels).all()


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"memory": "room"}, "memory 'room': there is none, use one of auto, resident, rooms"),
        ({"quantize": "int4"}, "quantize 'int4': there is none, use one of int8, nf4"),
        ({"vae": "/no/such"}, "--vae /no/such: is no folder"),
        ({"quantize": "nf4", "device": "cpu"}, "nf4: needs a CUDA GPU, on cpu use int8"),
    ],
)
def test_a_model_that_cannot_be_held_so_is_not_loaded(options, wrong):
    with pytest.raises(InputError, match=wrong):
        api.load_model(**options)


def test_a_model_that_is_called_whole_is_held_in_no_other_way():
    facts = replace(find_model("shapes"), only={"render.memory": ("auto",), "vae": ("",)})

    demand_drawable(facts, "auto", "int8", "")
    with pytest.raises(InputError, match="memory 'rooms': this model is drawn with auto alone"):
        demand_drawable(facts, "rooms", "", "")
    with pytest.raises(InputError, match="vae 'x': this model takes none"):
        demand_drawable(facts, "auto", "", "x")

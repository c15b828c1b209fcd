import json
from dataclasses import replace

import pytest

from sdbatch.errors import PlanChangedError
from sdbatch.plan.resuming import resume


def stored(resolved):
    """What a job record gives back."""
    settled = resolved.settle("float32", {"64x64": 16}).with_value("shards.size", 32, "auto")
    return json.loads(json.dumps(settled.with_value("columns", "c" * 64, "dataset").values()))


def test_the_same_command_goes_on_under_the_same_plan(resolved):
    before = stored(resolved())

    after = resume(before, resolved(), "out")

    assert after.values() == before
    assert after.notes == ()
    assert after.unsettled() == ()


def test_defaults_accept_what_stands_and_say_so(resolved):
    before = stored(resolved(("--steps", {"defaults.num_inference_steps": 9, "limit": 5})))

    after = resume(before, resolved(), "out", planned_on="21 Nov")

    assert after.value("defaults.num_inference_steps") == 9
    assert after.value("limit") == 5
    assert after.plan_id() == resume(before, after, "out").plan_id()
    assert after.notes == ("using num_inference_steps 9 and limit 5 as planned on 21 Nov",)


def test_all_explicit_differences_are_refused_together(resolved):
    before = stored(resolved(("--steps", {"defaults.num_inference_steps": 9})))
    now = resolved(("flags", {"defaults.num_inference_steps": 10, "seed": 3, "limit": 7,
                               "render.lossy": "fp8"}))  # fmt: skip

    with pytest.raises(PlanChangedError) as caught:
        resume(before, now, "out")

    assert set(caught.value.changes) == {
        ("defaults.num_inference_steps", "9", "10"),
        ("seed", "0", "3"),
        ("limit", "none", "7"),
        ("render.lossy", "none", "fp8"),
    }


@pytest.mark.parametrize(
    "flags",
    [
        {"seed": 0},
        {"render.batch_size": 16},
        {"render.dtype": "float32"},
        {"shards.size": 32},
        {"render.batch_size": "auto", "render.dtype": "auto", "shards.size": "auto"},
    ],
)
def test_saying_what_stands_is_no_difference(resolved, flags):
    before = stored(resolved())

    assert resume(before, resolved(("flags", flags)), "out").values() == before


@pytest.mark.parametrize(
    ("key", "value"), [("render.batch_size", 8), ("render.dtype", "float16"), ("shards.size", 7)]
)
def test_what_a_worker_settled_may_not_be_contradicted(resolved, key, value):
    with pytest.raises(PlanChangedError, match=key):
        resume(stored(resolved()), resolved(("flags", {key: value})), "out")


def test_workers_and_whereabouts_are_those_of_the_new_command(resolved):
    before = stored(resolved(("flags", {"workers.max": 2, "output": "a", "engine": "ray"})))
    now = resolved(("flags", {"workers.max": 8, "output": "b"}))

    after = resume(before, now, "b")

    assert (after.value("workers.max"), after.value("output")) == (8, "b")
    assert after.value("engine") == "auto"
    assert after.notes == ()


def test_another_manifest_is_refused(resolved, ref):
    now = resolved(ref=replace(ref, identity="ef56" * 16))

    with pytest.raises(PlanChangedError, match="manifest: was cd34cd34cd34, now ef56ef56ef56"):
        resume(stored(resolved()), now, "out")


def test_the_same_manifest_under_another_name_is_taken(resolved, ref):
    now = resolved(ref=replace(ref, name="./rows.parquet"))

    assert resume(stored(resolved()), now, "out").notes == ()


def test_another_model_is_refused_when_asked_for(resolved, model):
    other = replace(model, name="other", revision="0" * 64)
    now = resolved(("--model", {"model": "other"}), model=other)

    with pytest.raises(PlanChangedError, match="model: was shapes, now other"):
        resume(stored(resolved()), now, "out")


def test_the_planned_model_comes_back_when_none_is_asked_for(resolved, model):
    other = replace(model, name="other", revision="0" * 64)
    before = stored(resolved(("--model", {"model": "other"}), model=other))

    after = resume(before, resolved(), "out")

    assert (after.value("model"), after.value("model.revision")) == ("other", "0" * 64)
    assert after.notes == ("using model other and model revision 000000000000 as planned",)


def test_changed_weights_under_the_same_name_are_refused(resolved, model):
    now = resolved(model=replace(model, revision="0" * 64))

    with pytest.raises(PlanChangedError, match=r"model.revision: was ab12ab12ab12, now 0000"):
        resume(stored(resolved()), now, "out")


def test_an_older_revision_that_can_be_had_is_used_again(resolved, model):
    now = resolved(model=replace(model, revision="0" * 64))

    after = resume(stored(resolved()), now, "out", planned_on="21 Nov", can_pin_model=True)

    assert after.value("model.revision") == "ab12" * 16
    assert after.notes == ("using model revision ab12ab12ab12 as planned on 21 Nov",)


def test_a_plan_from_before_a_setting_is_resumed_and_not_changed_by_it(resolved):
    before = stored(resolved())
    del before["defaults.prompt_syntax"]

    after = resume(before, resolved(), "out")

    assert after.plan_id() == resume(stored(resolved()), resolved(), "out").plan_id()
    assert after.notes == ()
    with pytest.raises(PlanChangedError, match="prompt_syntax: was plain, now a1111"):
        resume(before, resolved(("flags", {"defaults.prompt_syntax": "a1111"})), "out")

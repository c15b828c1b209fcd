import json
from dataclasses import replace

import pytest

from sdbatch.errors import JobError
from sdbatch.model_specs import Speed
from sdbatch.plan.settings import row_defaults, speed_switches


def test_precedence_is_last_layer_then_model_then_default(resolved):
    got = resolved(
        ("job file night.yaml", {"defaults": {"width": 128, "height": 128}, "seed": 4}),
        ("--size", {"defaults.width": 256}),
    )

    shown = {key: (setting.value, setting.source) for key, setting in got.settings.items()}
    assert shown["defaults.width"] == (256, "--size")
    assert shown["defaults.height"] == (128, "job file night.yaml")
    assert shown["seed"] == (4, "job file night.yaml")
    assert shown["defaults.num_inference_steps"] == (20, "model shapes, card")
    assert shown["defaults.guidance_scale"] == (5.0, "model shapes")
    assert shown["render.cpu_threads"] == (1, "default")


def test_row_defaults_are_the_resolved_ones(resolved, defaults):
    assert row_defaults(resolved()) == defaults


def test_scheduler_names_and_overrides_are_made_canonical(resolved):
    got = row_defaults(
        resolved(
            (
                "job file a.yaml",
                {"defaults.scheduler": "DDIM", "defaults.scheduler_config": {"b": 1, "a": 0.5}},
            )
        )
    )

    assert (got.scheduler, got.scheduler_config) == ("DDIMScheduler", '{"a":0.5,"b":1}')


def test_what_auto_means_is_null_until_a_worker_settles_it(resolved):
    got = resolved(("--dtype", {"render.dtype": "auto"}))

    settled = got.settle("bfloat16", {"64x64": 16}).with_value("shards.size", 32, "auto")

    assert got.unsettled() == ("render.batch_size", "render.dtype", "shards.size")
    assert got.lanes(["64x64"]) == {}
    assert settled.unsettled() == ()
    assert settled.value("render.dtype") == "bfloat16"
    assert settled.lanes(["64x64"]) == {"64x64": 16}
    assert settled.plan_id() != got.plan_id()


def test_what_was_asked_is_not_settled_otherwise(resolved):
    got = resolved(("flags", {"render.dtype": "float32", "render.batch_size": 4}))

    settled = got.settle("bfloat16", {"64x64": 16})

    assert settled.value("render.dtype") == "float32"
    assert settled.lanes(["64x64", "8x8"]) == {"64x64": 4, "8x8": 4}


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("defaults.width", 100, "--x: defaults.width: 100: must be a multiple of 8"),
        ("defaults.height", 20000, "--x: defaults.height: 20000: must be a multiple of 8"),
        ("defaults.num_inference_steps", 1001, "must be a whole number from 1 to 1000"),
        ("defaults.scheduler", "DIMM", "DIMMScheduler: no such scheduler, nearest are DDIM"),
    ],
)
def test_a_default_the_model_cannot_draw_is_refused(resolved, key, value, words):
    with pytest.raises(JobError, match=words):
        resolved(("--x", {key: value}), schedulers=frozenset({"DDIMScheduler"}))


def test_credentials_do_not_enter_the_settings(resolved):
    got = resolved(("job file a.yaml", {"storage": {"secret": "hunter2"}}))

    assert "hunter2" not in json.dumps(got.values())


def test_whereabouts_and_workers_do_not_change_the_plan(resolved):
    one = resolved(("flags", {"output": "a", "workers.max": 2, "engine": "ray", "retries": 9}))

    assert one.plan_id() == resolved().plan_id()


def test_every_default_counts_in_the_plan(resolved):
    assert resolved(("--steps", {"defaults.num_inference_steps": 9})).plan_id() != (
        resolved().plan_id()
    )


OTHERWISE = {
    "compile": True,
    "channels_last": True,
    "fuse_qkv": True,
    "attention": "math",
    "tf32": True,
    "lossy": "deepcache:3,fp8",
}


@pytest.mark.parametrize("name", sorted(OTHERWISE))
def test_every_speed_switch_is_part_of_the_plan(resolved, name):
    got = resolved(("--set", {f"render.{name}": OTHERWISE[name]}))

    assert got.plan_id() != resolved().plan_id()
    assert got.settings[f"render.{name}"].source == "--set"
    assert speed_switches(got) == replace(Speed(), **{name: OTHERWISE[name]})


def test_no_switch_is_on_unless_somebody_asks(resolved):
    assert speed_switches(resolved()) == Speed()
    assert set(OTHERWISE) == set(Speed.__dataclass_fields__)


def test_the_canary_is_no_part_of_the_plan(resolved):
    got = resolved(("--no-canary", {"canary": False}))

    assert got.plan_id() == resolved().plan_id()
    assert got.settings["canary"].value is False


def test_who_draws_and_how_the_tail_is_shortened_is_no_part_of_the_plan(resolved):
    got = resolved(("job file a.yaml", {"workers": {"min": 2, "max": 8}, "speculate": False}))

    assert got.plan_id() == resolved().plan_id()
    assert got.settings["workers.min"].value == 2

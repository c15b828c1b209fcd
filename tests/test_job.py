"""Jobs: layers merged, sources remembered, unknown keys refused with the nearest name."""

import pytest

from sdbatch.errors import JobError
from sdbatch.job import ATTENTION, KEYS, RESERVED, ask


def test_the_last_layer_wins_and_is_remembered_as_the_source():
    asked = ask(
        [
            ("job file night.yaml", {"defaults": {"num_inference_steps": 20, "width": 64}}),
            ("--steps", {"defaults.num_inference_steps": 7}),
        ]
    )

    assert asked.value("defaults.num_inference_steps") == 7
    assert asked.sources["defaults.num_inference_steps"] == "--steps"
    assert asked.sources["defaults.width"] == "job file night.yaml"


def test_a_key_nobody_set_has_no_source():
    assert "seed" not in ask([("--set", {"model": "shapes"})]).sources


def test_an_unknown_key_is_refused_with_the_nearest_known_one():
    with pytest.raises(JobError, match=r"--set: unknown key 'render\.dtyp'.*'render\.dtype'"):
        ask([("--set", {"render.dtyp": "float32"})])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("defaults.num_inference_steps", -3),
        ("defaults.guidance_scale", float("nan")),
        ("render.batch_size", "many"),
        ("render.dtype", "int8"),
        ("render.dtype", "float8_e4m3fn"),
        ("render.attention", "fast"),
        ("render.compile", "maybe"),
        ("seed", -1),
        ("limit", 0),
        ("failures.allow", "some"),
        ("failures.allow", "150%"),
        ("failures.stop_after", "100.5%"),
        ("image.png_level", 12),
        ("engine", "dask"),
    ],
)
def test_an_impossible_value_is_refused_with_its_key_and_layer(key, value):
    with pytest.raises(JobError, match=f"--set: {key}: .*got"):
        ask([("--set", {key: value})])


@pytest.mark.parametrize("key", sorted(RESERVED))
def test_a_key_that_cannot_be_honoured_is_refused_not_ignored(key):
    with pytest.raises(JobError, match="leave the key out"):
        ask([("job file", {key: "x"})])


def test_free_form_keys_keep_their_tree():
    asked = ask([("job file", {"storage": {"client_kwargs": {"region": "x"}}})])

    assert asked.value("storage") == {"client_kwargs": {"region": "x"}}


def test_no_key_is_both_known_and_reserved():
    assert not KEYS & RESERVED.keys()


def test_attention_kernels_are_listed_once():
    for name in ATTENTION:
        assert ask([("--set", {"render.attention": name})]).value("render.attention") == name


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("fp8", "fp8"),
        ("fp8, deepcache:3", "deepcache:3,fp8"),
        (["fp8", "deepcache:20"], "deepcache:20,fp8"),
        ([], ""),
        ("", ""),
    ],
)
def test_lossy_switches_are_named_in_any_order(said, meant):
    assert ask([("--set", {"render.lossy": said})]).value("render.lossy") == meant


@pytest.mark.parametrize("said", ["fp4", "deepcache", "deepcache:1", "deepcache:2,deepcache:3", 3])
def test_a_lossy_switch_that_is_none_is_refused(said):
    with pytest.raises(JobError, match=r"--set: render\.lossy: "):
        ask([("--set", {"render.lossy": said})])


def test_a_share_of_all_pictures_is_at_most_all_of_them():
    job = ask([("--set", {"failures.allow": "100%", "failures.stop_after": 150})]).job

    assert (job.failures.allow, job.failures.stop_after) == ("100%", "150")
    with pytest.raises(JobError, match=r"failures\.stop_after: .*use at most 100%, got '150%'"):
        ask([("--set", {"failures.stop_after": "150%"})])

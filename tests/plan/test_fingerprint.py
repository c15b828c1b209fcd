import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.plan.fingerprint import NOT_IN_PLAN, plan_id, row_hash

SETTINGS = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=5
)


def test_a_plan_id_is_the_same_for_ever():
    settings = {"seed": 0, "image.format": "png", "limit": None}

    assert plan_id(settings) == ("481fe4269b844ff5b242ed3dd0033548ccee6975d74fd6f5994465a9393a286b")


@given(settings=SETTINGS, order=st.randoms())
def test_the_order_of_settings_does_not_count(settings, order):
    names = list(settings)
    order.shuffle(names)

    assert plan_id({name: settings[name] for name in names}) == plan_id(settings)


@pytest.mark.parametrize("key", sorted(NOT_IN_PLAN))
def test_how_and_where_a_run_works_is_no_part_of_its_plan(key):
    assert plan_id({"seed": 0, key: "x"}) == plan_id({"seed": 0})


@pytest.mark.parametrize(
    "key",
    [
        "manifest.identity",
        "model.revision",
        "seed",
        "limit",
        "render.dtype",
        "render.batch_size",
        "render.cpu_threads",
        "shards.size",
        "image.png_level",
        "defaults.width",
        "columns",
    ],
)
def test_what_decides_pixels_and_files_is_part_of_the_plan(key):
    assert plan_id({key: 1}) != plan_id({key: 2})


def test_values_no_json_reader_takes_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        plan_id({"defaults.guidance_scale": float("nan")})


def test_a_row_hash_tells_requests_and_models_apart():
    request = {"prompt": "a", "seed": 1}

    assert row_hash(request, "r1") == row_hash({"seed": 1, "prompt": "a"}, "r1")
    assert row_hash(request, "r1") != row_hash(request, "r2")
    assert row_hash(request, "r1") != row_hash({"prompt": "a", "seed": 2}, "r1")
    assert len(row_hash(request, "r1")) == 32


def test_a_setting_of_later_versions_counts_only_where_it_changes_something():
    plain, read = ({"seed": 0, "defaults.prompt_syntax": name} for name in ("plain", "a1111"))

    assert plan_id(plain) == plan_id({"seed": 0})
    assert plan_id(read) != plan_id({"seed": 0})

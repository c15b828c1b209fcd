"""Manifests against manifests and datasets: new, changed, same, gone."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch import api
from sdbatch.audit.manifest_diff import diff
from sdbatch.errors import InputError

INLINE = {"engine": "inline", "model": "fake", "size": "64x64"}


@pytest.fixture
def write(tmp_path):
    def _write(name, columns):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table(columns), path)
        return str(path)

    return _write


def counts(found):
    return found.new, found.changed, found.same, found.gone


def test_rows_are_known_by_id_and_changes_by_column(write):
    old = write("old", {"id": list("abcd"), "prompt": list("abcd"), "seed": [1, 2, 3, 4]})
    new = write("new", {"id": list("dcbx"), "prompt": list("dcBx"), "seed": [9, 3, 8, 1]})
    found = diff(old, new)

    assert found.by == "id"
    assert counts(found) == (1, 2, 1, 1)
    assert found.columns == {"seed": 2, "prompt": 1}
    assert found.examples["changed"] == [
        {"old": 3, "new": 0, "columns": ["seed"]},
        {"old": 1, "new": 2, "columns": ["prompt", "seed"]},
    ]
    assert found.examples["new"] == [{"old": None, "new": 3, "columns": []}]
    assert found.examples["gone"] == [{"old": 0, "new": None, "columns": []}]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(
    old=st.lists(st.sampled_from("abcd"), min_size=1, max_size=20),
    new=st.lists(st.sampled_from("abcd"), min_size=1, max_size=20),
)
def test_without_ids_equal_rows_meet_one_by_one(write, old, new):
    found = diff(write("old", {"prompt": old}), write("new", {"prompt": new}))

    same = sum(min(old.count(text), new.count(text)) for text in "abcd")
    assert found.by == "content"
    assert counts(found) == (len(new) - same, 0, same, len(old) - same)


def test_columns_of_ones_own_are_compared_too(write):
    old = write("old", {"prompt": ["a", "b"], "tags": [["x"], ["y"]]})
    new = write("new", {"prompt": ["a", "b"], "tags": [["x"], ["z"]], "mood": [None, None]})
    found = diff(old, new)

    assert counts(found) == (0, 1, 1, 0)
    assert found.columns == {"tags": 1}


def test_one_scheduler_under_two_names_is_no_change(write):
    old = write("old", {"id": ["a"], "prompt": ["p"], "scheduler": ["DDIM"]})
    new = write("new", {"id": ["a"], "prompt": ["p"], "scheduler": ["DDIMScheduler"]})

    assert counts(diff(old, new)) == (0, 0, 1, 0)


def test_one_micro_conditioning_in_two_spellings_is_no_change(write):
    sizes = ['{"target_size": [9, 8], "original_size": [7, 6]}', '{"target_size": [9, 8]}', "{}"]
    again = ['{"original_size":[7,6],"target_size":[9,8]}', '{"target_size":[9,7]}', None]
    prompts = {"id": list("abc"), "prompt": list("abc")}

    found = diff(
        write("old", {**prompts, "micro_conditioning": sizes}),
        write("new", {**prompts, "micro_conditioning": again}),
    )

    assert counts(found) == (0, 1, 2, 0)
    assert found.columns == {"micro_conditioning": 1}


def test_a_dataset_holds_what_its_manifest_asked_for_failures_too(write, tmp_path):
    path = write("rows", {"prompt": [f"p{i % 30}" for i in range(40)], "seed": [None] * 40})
    api.render(path, tmp_path / "out", **(INLINE | {"model": "fake:fail=0.3"}))

    for sides in ((path, str(tmp_path / "out")), (str(tmp_path / "out"), path)):
        found = diff(*sides)
        assert (found.by, counts(found)) == ("content", (0, 0, 40, 0))


def test_against_a_dataset_only_what_a_row_states_can_have_changed(write, tmp_path):
    path = write("rows", {"id": list("abc"), "prompt": list("abc"), "seed": [1, 2, 3]})
    api.render(path, tmp_path / "out", num_images_per_prompt=2, **INLINE)
    later = write(
        "later",
        {"id": list("abd"), "prompt": list("abd"), "num_inference_steps": [None, 9, None]},
    )
    found = diff(str(tmp_path / "out"), later)

    assert counts(found) == (1, 1, 1, 1)
    assert found.columns == {"num_inference_steps": 1}


def test_a_dataset_with_ids_needs_a_manifest_with_ids(write, tmp_path):
    path = write("rows", {"id": list("abc"), "prompt": list("abc")})
    api.render(path, tmp_path / "out", **INLINE)

    with pytest.raises(InputError, match="give the manifest the column 'id'"):
        diff(str(tmp_path / "out"), write("bare", {"prompt": list("abc")}))

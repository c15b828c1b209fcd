"""The runs of a dataset: named, marked, and told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.runs import all_runs, appended_runs, demand_name, finished_runs, mark_run
from sdbatch.storage.store import check_key, open_store


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "out")


def test_runs_are_found_by_their_marks_and_main_comes_first(store):
    for run in ("20261123", "20261122", "20261122"):
        mark_run(store, run)

    assert all_runs(store) == ["main", "20261122", "20261123"]
    assert finished_runs(store) == {}


@given(st.from_regex(layout._RUN, fullmatch=True))
def test_the_name_of_a_run_is_read_back_from_its_mark(run):
    if run.lower() == "main" and run != "main":
        return
    key = layout.run_mark_key(run)
    check_key(key)

    assert layout.parse_run_mark(key) == run


@pytest.mark.parametrize(
    "run",
    [
        *("main", "Main", "MAIN", "", ".", ".hidden", "ends.", "a/b", "a b", "ä", "x" * 65),
        *("test", "night-test", "train.2", "20261122_val", "Validation", "dev"),
    ],
)
def test_a_name_that_readers_or_disks_would_take_for_another_is_refused(store, run):
    with pytest.raises(InputError):
        demand_name(store, run)


@pytest.mark.parametrize("run", ["20261122", "2026.11.22", "Night_7", "x" * 64, "contest", "n-1"])
def test_a_plain_name_is_taken(store, run):
    demand_name(store, run)


def test_names_that_differ_in_capitals_alone_are_refused(store):
    mark_run(store, "Night")
    demand_name(store, "Night")

    with pytest.raises(InputError, match="'Night' stands here"):
        demand_name(store, "night")
    assert appended_runs(store) == ["Night"]

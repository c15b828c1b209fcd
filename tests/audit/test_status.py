"""Status in every state, from storage alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sdbatch.audit.status import describe, read_status
from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import hold_lease
from sdbatch.storage.process_identity import this_process
from tests.audit.tiny_dataset import (
    NUM_IMAGES,
    PLAN,
    memory_store,
    shard_rows,
    write_dataset,
    write_shard,
)


@pytest.fixture
def store():
    return memory_store()


def say(store, **progress):
    RunFolder(store).write_progress(
        {"finished": 1, "workers_up": 1, "workers_wanted": 2, "in_flight": 4, **progress}
    )


def test_a_folder_without_a_run_is_refused_in_one_line(store):
    with pytest.raises(InputError) as caught:
        read_status(store)

    assert str(caught.value) == (
        f"{store.url}: holds no run 'main', name the output of sdbatch render"
    )


def test_planned(store):
    write_dataset(store, shards=(), success=False)
    status = read_status(store)

    assert (status.state, status.exit_code, status.images) == ("planned", 75, NUM_IMAGES)
    assert (status.driver, status.driver_seen_at, status.images_per_s) == ("", None, None)
    assert status.resume == f"sdbatch render prompts.parquet {store.url}"
    assert "no driver has started it yet" in describe(status)


def test_running_takes_rate_and_workers_from_fresh_progress(store):
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        say(store, images_per_s=2.0)
        now = datetime.now(UTC)
        status = read_status(store, now=now)

    assert (status.state, status.exit_code, status.images_done) == ("running", 75, 4)
    assert (status.images_per_s, status.workers_up, status.workers_wanted) == (2.0, 1, 2)
    left = NUM_IMAGES - 4 - 1
    assert datetime.fromisoformat(status.eta) - now == pytest.approx(
        timedelta(seconds=left / 2), abs=timedelta(seconds=1)
    )
    assert "2.00 images/s, done at about" in describe(status, now)
    assert "1 of 2 workers, 4 images in flight" in describe(status, now)
    assert status.resume == ""


def test_running_without_fresh_progress_takes_the_rate_from_records(store):
    write_dataset(store, shards=(0, 1), success=False)
    with hold_lease(store):
        say(store, images_per_s=99.0, at="2020-01-01T00:00:00+00:00")
        status = read_status(store)

    # ten pictures from 00:00 to 00:11 by the records
    assert status.images_per_s == pytest.approx(10 / 11, abs=0.001)
    assert status.workers_up is None


def test_stopped_says_how_to_go_on(store):
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        say(store, images_per_s=2.0)
    status = read_status(store)

    assert (status.state, status.exit_code, status.eta) == ("stopped", 75, None)
    assert f"resume with: sdbatch render prompts.parquet {store.url}" in describe(status)


def test_a_driver_that_fell_silent_has_stopped(store):
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        later = datetime.now(UTC) + timedelta(minutes=6)
        status = read_status(store, now=later)

    assert status.state == "stopped"
    assert f"no sign of the driver ({status.driver}) for 6 min" in describe(status, later)


def test_done_without_failures(store, monkeypatch):
    monkeypatch.setattr("tests.audit.tiny_dataset.FAILED", set())
    write_dataset(store)
    status = read_status(store)

    assert (status.state, status.exit_code, status.shards_done) == ("done", 0, 3)
    assert (status.success, status.resume, status.model) == (NUM_IMAGES, "", "shapes")
    assert status.plan_id == PLAN
    assert json.loads(json.dumps(status.to_json()))["state"] == "done"


@pytest.mark.parametrize(
    ("allow", "exit_code"),
    [("0", 4), ("1", 4), ("2", 0), ("16%", 4), ("17%", 0), ("100%", 0)],
)
def test_failures_count_against_what_the_job_allows(store, allow, exit_code):
    write_dataset(store, resolved={"model": "shapes", "failures.allow": allow})
    status = read_status(store)

    assert (status.state, status.exit_code) == ("done_with_failures", exit_code)
    assert status.errors == {"NonFiniteError": 2}
    assert "failures: NonFiniteError 2" in describe(status)


@pytest.mark.parametrize("asked", [{"failures.allow": "2"}, {"failures": {"allow": "2"}}])
def test_what_the_plan_leaves_out_is_taken_from_what_was_asked(store, asked):
    write_dataset(store, resolved={"model": "shapes"}, asked=asked)

    assert read_status(store).exit_code == 0


def test_all_shards_without_the_success_record_are_not_done(store):
    write_dataset(store, success=False)
    status = read_status(store)

    assert (status.state, status.shards_done, status.exit_code) == ("stopped", 3, 75)


@pytest.mark.parametrize("asked", [{}, {"manifest": "-"}, {"manifest": None}])
def test_a_run_without_a_manifest_file_is_resumed_by_the_same_command(store, asked):
    write_dataset(store, shards=(), success=False, asked=asked)

    assert read_status(store).resume == "the same command again"


def test_an_appended_run_is_resumed_under_its_name(store):
    write_dataset(store, "n2", shards=(), success=False)

    assert read_status(store, "n2").resume.endswith("--append n2")


def test_unreadable_advice_is_ignored(store):
    write_dataset(store)
    store.put(layout.progress_key("main"), b"{")
    store.put(layout.lease_key("main", 1), b"{")
    store.put(layout.heartbeat_key("main", 1), b"[]")

    assert read_status(store).state == "done_with_failures"


def test_a_finished_run_that_lost_a_record_is_damaged(store):
    write_dataset(store)
    store.delete(layout.commit_key("main", 1))
    status = read_status(store)

    assert (status.state, status.exit_code, status.shards_done) == ("damaged", 3, 2)
    assert f"sdbatch verify {store.url}" in describe(status)
    assert status.resume == ""


def test_a_finished_run_whose_counts_do_not_add_up_is_damaged(store):
    write_dataset(store)
    key = layout.commit_key("main", 0)
    store.put(key, json.dumps({**json.loads(store.get(key)), "success": 3}).encode())

    assert (read_status(store).state, read_status(store).exit_code) == ("damaged", 3)


def test_a_run_that_ends_while_it_is_looked_at_is_not_damaged(store, monkeypatch):
    write_dataset(store, shards=(0, 1), success=False)
    counted = RunFolder.records

    def records_then_the_end(folder):
        yield from list(counted(folder))
        if folder.success() is None and len(folder.committed()) < 3:
            write_shard(store, 2, *shard_rows(2))
            monkeypatch.setattr(RunFolder, "records", counted)
            folder.create_success(PLAN, 3)

    monkeypatch.setattr(RunFolder, "records", records_then_the_end)

    assert read_status(store).state == "stopped"
    assert read_status(store).state == "done_with_failures"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"pid": 2**22 + 1, "started": "1"}, "stopped"),
        ({"pid": 2**22 + 1, "started": "1", "host": "other-machine"}, "running"),
    ],
)
def test_a_driver_that_was_killed_on_this_machine_has_stopped_at_once(store, change, state):
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store, owner=replace(this_process(), **change)):
        say(store, images_per_s=2.0)
        status = read_status(store)

    assert status.state == state
    assert (status.workers_up is None) == (state == "stopped")

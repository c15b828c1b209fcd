"""Status in every state, from storage alone."""

from __future__ import annotations

import json
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sdbatch.audit.status import read_status
from sdbatch.audit.status_counts import Counts
from sdbatch.audit.status_text import describe
from sdbatch.errors import InputError
from sdbatch.records import Redo
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder
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
    assert "1 of 2 workers up, 4 images in flight" in describe(status, now)
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
    assert f"failures: NonFiniteError 2; see: sdbatch errors {store.url}" in describe(status)


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


# -- before, and early ends --------------------------------------------------------------


def test_a_driver_without_a_plan_is_starting_and_not_missing(store):
    with hold_lease(store):
        status = read_status(store)
        assert (status.state, status.exit_code, status.images) == ("starting", 75, 0)
        assert f"{this_process().place} drives" in describe(status)
    status = read_status(store)

    assert (status.state, status.resume) == ("stopped", "the same command again")
    assert "nothing is planned yet" in describe(status)
    assert json.loads(json.dumps(status.to_json()))["images"] == 0


@pytest.mark.parametrize(
    ("exit_code", "shown"), [(4, 4), (5, 5), (3, 3), (75, 75), (0, 75), ("4", 75), (None, 75)]
)
def test_an_early_end_keeps_its_own_exit_code_and_reason(store, exit_code, shown):
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        say(store, ended={"exit_code": exit_code, "reason": "25 pictures failed", "at": "x"})
    status = read_status(store)

    assert (status.state, status.exit_code) == ("stopped", shown)
    assert "ended 0 s ago: 25 pictures failed" in describe(status)
    assert status.resume


def test_the_last_word_of_an_earlier_driver_is_not_that_of_a_later_one(store):
    write_dataset(store, shards=(0,), success=False)
    say(store, ended={"exit_code": 4, "reason": "old"}, worker_hours=9.0, gpu_hours=9.0)
    time.sleep(0.01)
    with hold_lease(store):
        pass
    status = read_status(store)

    assert (status.exit_code, status.ended, status.gpu_hours) == (75, "", 0.0)


@pytest.mark.parametrize("ended", [{"exit_code": 0}, {"exit_code": 75}, {}, "nonsense"])
def test_what_a_later_call_allowed_counts_for_a_finished_run(store, ended):
    write_dataset(store)
    with hold_lease(store):
        say(store, ended=ended)

    assert read_status(store).exit_code == (0 if ended == {"exit_code": 0} else 4)


def test_a_store_that_fails_is_said(store):
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        say(store, paused="the store fails: 503", workers_starting=1)
        shown = describe(read_status(store))

    assert "paused: the store fails: 503" in shown
    assert "1 of 2 workers up (1 starting)" in shown


# -- hours -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "gpu_hours"), [("cuda:0 (H200), bfloat16", 2.5), ("cpu (EPYC), float32", 0.5)]
)
def test_hours_are_those_of_this_call_and_of_earlier_shards(store, env, gpu_hours):
    write_dataset(store, shards=(0, 1), success=False, render_env=env)
    for shard in (0, 1):
        key = layout.commit_key("main", shard)
        record = json.loads(store.get(key))
        record["phase_seconds"] = {"denoise": 3000.0, "decode": 600.0, "write": 99_999.0}
        if shard == 1:
            record["started_at"] = "2999-01-01T00:00:00+00:00"  # begun in the call that runs
        store.put(key, json.dumps(record).encode())
    with hold_lease(store):
        say(store, worker_hours=1.5, gpu_hours=1.5 if gpu_hours > 1 else 0.5)
        status = read_status(store)

    assert (status.gpu_hours, status.worker_hours) == (gpu_hours, 2.5)
    assert f"{gpu_hours:.2f} GPU-hours" in describe(status)


# -- reworks -----------------------------------------------------------------------------


def test_an_unfinished_retry_is_said_with_the_command_that_finishes_it(store):
    write_dataset(store)
    folder = RunFolder(store)
    folder.begin_rework(Redo("failed"), {1: 1}, PLAN)
    status = read_status(store)
    shown = describe(status)

    assert (status.state, status.exit_code) == ("stopped", 75)
    assert status.rework == {
        "number": 1, "kind": "failed", "images": 2, "shards": 1, "of_shards": 1
    }  # fmt: skip
    assert "a retry of 2 failed pictures is unfinished: 1 of 1 shards are left" in shown
    assert f"finish with: sdbatch retry {store.url}" in shown


@pytest.mark.parametrize(("types", "images"), [(("NonFiniteError",), 2), (("Other",), 0)])
def test_a_retry_counts_only_the_types_it_draws(store, types, images):
    write_dataset(store)
    RunFolder(store).begin_rework(Redo("failed", types), {1: 1}, PLAN)

    assert read_status(store).rework["images"] == images


def test_an_unfinished_repair_is_said(store):
    write_dataset(store)
    RunFolder(store).begin_rework(Redo("damaged"), {0: 1, 2: 1}, PLAN)
    shown = describe(read_status(store))

    assert "a repair is unfinished: 2 of 2 shards are left" in shown
    assert f"finish with: sdbatch repair {store.url}" in shown


def test_memory_does_not_grow_with_records(store):
    result = write_shard(store, 0, *shard_rows(0))
    one = CommitRecord(result, PLAN, 0, "w")

    def many(number):
        for shard in range(number):
            text = f"2026-01-01T00:{shard % 60:02d}:00+00:00"
            yield replace(one, result=replace(result, shard_id=shard, finished_at=text))

    def peak(number):
        tracemalloc.start()
        counts = Counts.of(many(number), None, None)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (counts.shards, counts.success) == (number, 4 * number)
        return most

    peak(10)  # what the first call of all keeps for good
    assert peak(20_000) < peak(1_000) + 1_000_000  # 50 bytes a record, of more than 1,000

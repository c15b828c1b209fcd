"""Records: created once, read back whole, highest revision first."""

from __future__ import annotations

import json

import pytest

from sdbatch.errors import DamagedError, InputError, StorageError
from sdbatch.storage import layout
from sdbatch.storage.commit import READERS, RunFolder
from sdbatch.storage.store import open_store
from tests.storage.stores import DictStore, FaultStore, make_result, memory_store

PLAN = "plan-a"


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return open_store(tmp_path / "out") if request.param == "local" else memory_store()


def test_a_job_is_what_its_first_writer_said(store):
    folder = RunFolder(store)

    assert folder.read_job() is None
    assert folder.create_job(b'{"protocol": 1, "by": "a"}') == b'{"protocol": 1, "by": "a"}'
    assert folder.create_job(b'{"protocol": 1, "by": "b"}') == b'{"protocol": 1, "by": "a"}'
    assert folder.read_job() == {"protocol": 1, "by": "a"}


def test_a_record_comes_back_as_it_was_committed(store):
    folder, result = RunFolder(store), make_result(7, errors={"NonFiniteError": 2})

    assert folder.record(7) is None
    assert folder.commit(result, PLAN)
    record = folder.record(7)
    assert (record.result, record.plan_id, record.revision) == (result, PLAN, 0)
    assert [kind for kind, _ in record.files] == ["data", "metadata"]


def test_a_record_is_one_line_of_ascii(store):
    RunFolder(store).commit(make_result(0, worker="wörker\n--x--"), PLAN)
    data = store.get(layout.commit_key("main", 0))

    assert data.isascii()
    assert data.count(b"\n") == 1
    assert {"protocol", "plan_id", "shard_id", "attempt", "write_id"} <= json.loads(data).keys()


def test_the_first_commit_of_a_shard_stands(store):
    folder = RunFolder(store)
    first, second = make_result(1, "0000000a"), make_result(1, "0000000b")

    assert folder.commit(first, PLAN)
    assert not folder.commit(second, PLAN)
    assert folder.record(1).result == first


def test_committing_the_same_attempt_again_is_still_a_win(store):
    folder = RunFolder(store)

    assert folder.commit(make_result(1), PLAN)
    assert folder.commit(make_result(1), PLAN)


def test_the_highest_revision_stands_and_none_changes(store):
    folder = RunFolder(store)
    for revision, attempt in enumerate(("0000000a", "0000000b", "0000000c")):
        assert folder.commit(make_result(1, attempt), PLAN, revision)
    before = store.get(layout.commit_key("main", 1))

    assert folder.record(1).result.attempt == "0000000c"
    assert [record.revision for record in folder.records()] == [2]
    assert folder.committed() == {1}
    assert store.get(layout.commit_key("main", 1)) == before


@pytest.mark.parametrize("count", [3, 3 * READERS])
def test_records_come_in_shard_order_whether_read_alone_or_by_threads(store, count):
    folder = RunFolder(store)
    for shard_id in reversed(range(count)):
        folder.commit(make_result(shard_id * 100), PLAN)

    assert [record.result.shard_id for record in folder.records()] == list(
        range(0, count * 100, 100)
    )


def test_committed_shards_are_found_without_reading_a_record():
    store = FaultStore(DictStore())
    folder = RunFolder(store)
    folder.create_job(b'{"protocol": 1, "plan_id": "plan-a", "num_shards": 20}')
    for shard_id in range(20):
        folder.commit(make_result(shard_id), PLAN)
    folder.committed()  # reads the job, once
    before = store.calls

    assert folder.committed() == set(range(20))
    assert store.calls == before + 2  # names of compactions, names of records


def test_runs_do_not_see_each_other(store):
    RunFolder(store, "main").commit(make_result(0), PLAN)

    assert RunFolder(store, "n2").committed() == set()


def test_success_needs_every_shard(store):
    folder = RunFolder(store)
    folder.commit(make_result(0), PLAN)

    with pytest.raises(StorageError, match="1 of 2 shards are committed"):
        folder.create_success(PLAN, 2)
    assert folder.success() is None


def test_success_lists_files_and_totals_and_is_written_once(store):
    folder = RunFolder(store)
    for shard_id in (1, 0):
        folder.commit(make_result(shard_id, success=1, failed=1, errors={"E": 1}), PLAN)
    body = folder.create_success(PLAN, 2)
    folder.create_success(PLAN, 2)

    assert folder.success() == body
    assert [(f["kind"], f["shard_id"]) for f in body["files"]] == [
        ("data", 0),
        ("metadata", 0),
        ("data", 1),
        ("metadata", 1),
    ]
    assert (body["images"], body["success"], body["failed"], body["errors"]) == (4, 2, 2, {"E": 2})
    assert len(list(store.list(layout.successes_prefix("main")))) == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", DamagedError),
        (b"[]", DamagedError),
        (b'{"protocol": 1}', DamagedError),
        (b'{"protocol": null}', DamagedError),
        (b'{"protocol": 3}', InputError),
    ],
)
def test_an_unreadable_record_is_named(store, body, error):
    key = layout.commit_key("main", 0)
    store.put(key, body)

    with pytest.raises(error) as caught:
        RunFolder(store).record(0)
    assert store.join(key) in str(caught.value)


def test_progress_is_advice_and_never_an_error(store):
    folder = RunFolder(store)
    assert folder.read_progress() is None
    folder.write_progress({"finished": 3})
    assert folder.read_progress()["finished"] == 3
    assert "at" in folder.read_progress()
    store.put(layout.progress_key("main"), b"half a l")

    assert folder.read_progress() is None

"""verify of revisions, open reworks, the chain of success records, copies and samples."""

from __future__ import annotations

import json

import pytest

from sdbatch.audit.verify import verify
from sdbatch.errors import InputError
from sdbatch.records import Redo
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.compaction import Line, newest_compaction, pack
from sdbatch.storage.compactor import compact
from sdbatch.storage.store import open_store
from tests.audit.tiny_dataset import (
    PLAN,
    memory_store,
    shard_rows,
    write_dataset,
    write_job,
    write_shard,
)

SUCCESS = layout.success_key("main", 0)


@pytest.fixture
def store():
    store = memory_store()
    write_dataset(store)
    return store


def begin(store, shards, kind="failed"):
    folder = RunFolder(store)
    return folder.begin_rework(Redo(kind), folder.next_revisions(shards), PLAN)


def make_again(store, shard_id, attempt="0000000f"):
    """Another attempt at a shard, committed as its next revision."""
    scratch = memory_store()
    write_job(scratch)
    result = write_shard(scratch, shard_id, *shard_rows(shard_id), attempt=attempt)
    for info in scratch.list(""):
        if attempt in info.key:
            store.put(info.key, scratch.get(info.key))
    folder = RunFolder(store)
    assert folder.commit(result, PLAN, folder.next_revisions([shard_id])[shard_id])


def close(store):
    RunFolder(store).create_success(PLAN, 3)


def problems(report):
    return [(problem.kind, problem.shard_id, problem.file) for problem in report.problems]


def test_revisions_are_what_is_verified(store):
    before = RunFolder(store).record(1).result.data.key
    begin(store, [1])
    make_again(store, 1)
    close(store)
    store.delete(before)

    report = verify(store, level=3)
    assert (report.problems, report.exit_code, report.unfinished) == ([], 0, "")
    assert before not in report.orphans


@pytest.mark.parametrize("made", [0, 1, 2])
def test_an_open_rework_is_unfinished_and_names_its_command(store, made):
    begin(store, [0, 1], "damaged" if made == 1 else "failed")
    for shard_id in range(made):
        make_again(store, shard_id)
    report = verify(store, level=3)

    assert report.problems == []
    assert report.exit_code == 75
    word = "repair" if made == 1 else "retry"
    assert f"{word} 1: {2 - made} of 2 shards are" in report.unfinished
    assert f"sdbatch {word} {store.url}" in report.unfinished
    assert report.orphans == ()  # what it supersedes is needed until it is closed


def test_after_a_rework_only_superseded_files_are_left_over(store):
    old = {file.key for _, file in RunFolder(store).record(0).files}
    begin(store, [0])
    make_again(store, 0)
    close(store)

    assert set(verify(store).orphans) == old


def test_damage_outranks_an_open_rework(store):
    begin(store, [0])
    store.delete(RunFolder(store).record(2).result.data.key)
    report = verify(store)

    assert report.exit_code == 3
    assert report.unfinished


def test_damaged_shards_are_named_with_what_is_wrong_of_them(store):
    records = list(RunFolder(store).records())
    store.delete(records[0].result.data.key)
    rotten = records[1].result
    store.put(rotten.metadata.key, bytes(rotten.metadata.size_bytes))
    store.put(rotten.errors_file.key, b"short")
    store.put(layout.commit_key("main", 2), b"{")

    assert verify(store, level=0).damaged_shards() == {2: ("record",)}
    assert verify(store, level=1).damaged_shards() == {
        0: ("data",),
        1: ("errors",),
        2: ("record",),
    }
    deep = {0: ("data",), 1: ("errors", "metadata"), 2: ("record",)}
    assert verify(store, level=2).damaged_shards() == deep
    assert verify(store, level=3).damaged_shards() == deep


def test_a_lost_record_of_a_finished_run_is_a_damaged_shard(store):
    store.delete(layout.commit_key("main", 1))

    assert verify(store, level=0).damaged_shards() == {1: ("record",)}


def test_a_sound_dataset_has_no_damaged_shards(store):
    assert verify(store, level=3).damaged_shards() == {}


def test_a_shard_that_changed_without_a_rework_is_damage(store):
    make_again(store, 1)
    report = verify(store, level=0)

    assert report.exit_code == 3
    assert ("success", 1, "record") in problems(report)


def test_a_rework_that_changed_other_shards_is_remarked(store):
    begin(store, [0])
    make_again(store, 0)
    close(store)
    body = json.loads(store.get(SUCCESS))
    body["files"][-1]["sha256"] = "00" * 32
    store.put(SUCCESS, json.dumps(body).encode())
    report = verify(store, level=0)

    assert report.problems == []
    assert [remark.key for remark in report.remarks] == [layout.success_key("main", 1)]
    assert "files of shard 2 differ from success record 0" in report.remarks[0].message


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (SUCCESS, "is gone, later ones stand"),
        (layout.rework_key("main", 1), "is gone, success record 1 stands"),
    ],
)
def test_a_chain_with_a_link_gone_is_damage(store, gone, message):
    begin(store, [0])
    make_again(store, 0)
    close(store)
    store.delete(gone)
    report = verify(store, level=0)

    assert [(problem.key, problem.message) for problem in report.problems] == [(gone, message)]


def test_a_rework_out_of_its_turn_is_damage(store):
    begin(store, [0])
    key = layout.rework_key("main", 5)
    store.put(key, store.get(layout.rework_key("main", 1)))

    assert key in {problem.key for problem in verify(store, level=0).problems}


def test_an_unreadable_open_rework_is_damage(store):
    begin(store, [0])
    store.put(layout.rework_key("main", 1), b"{")

    assert problems(verify(store)) == [("rework", None, "")]


@pytest.mark.parametrize("key", [SUCCESS, layout.rework_key("main", 1)])
def test_what_nothing_depends_on_any_more_is_remarked_not_damage(store, key):
    begin(store, [0])
    make_again(store, 0)
    close(store)
    store.put(key, b"{")
    report = verify(store)

    assert report.exit_code == 0
    assert [remark.key for remark in report.remarks] == [key]
    assert f"note: {key}" in report.describe()


def test_an_unreadable_newest_success_record_is_damage(store):
    store.put(SUCCESS, b"{")

    assert problems(verify(store)) == [("success", None, "")]


def test_records_are_verified_where_they_lie_whatever_a_copy_says(store):
    compact(store)
    store.put(layout.commit_key("main", 1), b"{")
    report = verify(store, level=0)

    assert report.damaged_shards() == {1: ("record",)}
    assert [remark.kind for remark in report.remarks] == ["compaction"]


@pytest.mark.parametrize("change", ["differs", "invented", "too new"])
def test_a_copy_that_differs_is_a_fault_of_the_copy_alone(store, change):
    compact(store)
    lines = list(newest_compaction(store, "main", PLAN).lines())
    if change == "differs":
        lines[1] = Line(1, 0, "", lines[1].record.replace(b"w0", b"w9"))
    elif change == "too new":
        lines[1] = Line(1, 1, "", lines[1].record)
    else:
        lines.append(Line(7, 0, "", lines[1].record))
    key = layout.compaction_key("main", 1)
    store.put(key, pack(lines, PLAN, 0))
    report = verify(store, level=0)

    assert report.exit_code == 0
    assert [remark.key for remark in report.remarks] == [key]
    assert "delete it" in report.describe()


def test_a_copy_older_than_a_rework_is_fine(store):
    compact(store)
    begin(store, [0])
    make_again(store, 0)
    close(store)

    assert verify(store).remarks == []


def test_a_sample_reads_some_shards_and_says_so(store):
    report = verify(store, level=3, sample=0.3)

    assert (report.sampled, report.exit_code) == (1, 0)
    assert report.files_checked > 3  # sizes are of all
    assert "bytes of 1 shards only" in report.describe()
    assert verify(store, level=2).sampled == 3
    assert "only" not in verify(store, level=2).describe()


def test_every_shard_comes_into_a_sample_some_time(store):
    store.put(RunFolder(store).record(2).result.data.key, b"x")
    seen = {verify(store, level=3, sample=0.1).images_checked for _ in range(60)}

    assert len(seen) > 1


@pytest.mark.parametrize("sample", [0, -0.1, 1.5, float("nan")])
def test_an_impossible_sample_is_refused(store, sample):
    with pytest.raises(InputError, match="a share above 0"):
        verify(store, level=2, sample=sample)


def test_local_datasets_are_verified_the_same_way(tmp_path):
    store = open_store(tmp_path)
    write_dataset(store)
    begin(store, [0])
    make_again(store, 0)
    compact(store)

    assert verify(store, level=3).exit_code == 75
    close(store)
    assert verify(store, level=3).exit_code == 0

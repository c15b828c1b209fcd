"""Compactions: used when whole and of this plan, and never believed against the records."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import StorageError
from sdbatch.records import Redo
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.compaction import newest_compaction, pack
from sdbatch.storage.compactor import Compactor, compact
from sdbatch.storage.store import open_store
from tests.storage.stores import DictStore, FaultStore, make_result, memory_store

PLAN = "plan-a"
SHARDS = 2 * layout.GROUP + 10  # two whole folders and the beginning of a third
CKPT = layout.compaction_key("main", 0)


class CountingStore(DictStore):
    """Remembers what was listed and read."""

    def __init__(self):
        super().__init__()
        self.listed, self.read = [], []

    def get(self, key):
        self.read.append(key)
        return super().get(key)

    def list_many(self, prefixes):
        self.listed += prefixes
        return super().list_many(prefixes)


def fill(store, shards=range(SHARDS), num_shards=SHARDS):
    folder = RunFolder(store)
    job = {"protocol": 1, "plan_id": PLAN, "num_shards": num_shards}
    folder.create_job(json.dumps(job).encode())
    for shard_id in shards:
        folder.commit(make_result(shard_id), PLAN)
    return folder


@pytest.fixture
def store():
    return CountingStore()


def test_a_compaction_holds_the_records_byte_for_byte_in_shard_order(store):
    fill(store, reversed(range(20)), 20)
    assert compact(store) == 0

    lines = list(newest_compaction(store, "main", PLAN).lines())
    assert [line.shard_id for line in lines] == list(range(20))
    assert all(line.record == store.get(layout.commit_key("main", line.shard_id)) for line in lines)
    text = gzip.decompress(store.get(CKPT)).decode()
    assert all(json.loads(line) for line in text.splitlines())


def test_folders_that_are_wholly_compacted_are_not_listed(store):
    folder = fill(store, range(2 * layout.GROUP + 3))
    compact(store)
    folder.commit(make_result(SHARDS - 1), PLAN)
    store.listed.clear()

    assert RunFolder(store).committed() == {*range(2 * layout.GROUP + 3), SHARDS - 1}
    assert store.listed == [layout.group_prefix("main", 2)]


def test_a_finished_folder_at_the_end_of_the_plan_counts_as_whole(store):
    fill(store)
    compact(store)
    store.listed.clear()

    assert RunFolder(store).committed() == set(range(SHARDS))
    assert store.listed == []


def test_records_come_from_the_compaction_and_only_new_ones_are_read(store):
    folder = fill(store, range(SHARDS - 2))
    compact(store)
    folder.commit(make_result(SHARDS - 2), PLAN)
    store.read.clear()

    for certain in (False, True):
        records = list(RunFolder(store).records(certain=certain))
        assert [record.result.shard_id for record in records] == list(range(SHARDS - 1))
    read = [key for key in store.read if "/commits/" in key]
    assert set(read) == {layout.commit_key("main", SHARDS - 2)}


def test_a_certain_reader_lists_all_and_takes_no_copy_of_a_changed_object(store):
    folder = fill(store, range(20), 20)
    compact(store)
    key = layout.commit_key("main", 7)
    store.put(key, store.get(key).replace(b'"worker":"w0"', b'"worker":"w9"'))

    assert list(folder.records(certain=True))[7].result.worker == "w9"
    del store.objects[key]
    assert 7 not in folder.standing(certain=True)
    with pytest.raises(StorageError, match="19 of 20"):
        folder.create_success(PLAN, 20)


@pytest.mark.parametrize("compacted_after", ["render", "begun", "half", "closed"])
def test_a_newer_revision_is_found_whenever_the_compaction_was_written(store, compacted_after):
    folder = fill(store)
    folder.create_success(PLAN, SHARDS)

    def at(moment):
        if moment == compacted_after:
            compact(store)

    at("render")
    folder.begin_rework(Redo("failed"), {3: 1, 300: 1}, PLAN)
    at("begun")
    folder.commit(make_result(3, "0000000b"), PLAN, 1)
    at("half")
    folder.commit(make_result(300, "0000000b"), PLAN, 1)
    folder.create_success(PLAN, SHARDS)
    at("closed")
    store.listed.clear()

    standing = folder.standing()
    listed = len(store.listed)
    assert standing == folder.standing(certain=True)
    assert standing[3].endswith("00003.r1.json")
    assert list(folder.records())[300].revision == 1
    assert listed == (0 if compacted_after == "closed" else 2)


def test_a_compaction_does_not_cover_an_unreadable_rework(store):
    folder = fill(store, range(20), 20)
    folder.create_success(PLAN, 20)
    compact(store)
    folder.commit(make_result(3, "0000000b"), PLAN, 1)
    store.put(layout.rework_key("main", 1), b"{")

    assert folder.standing()[3].endswith(".r1.json")


def test_a_lost_rework_record_after_a_compaction_is_noticed_and_all_is_listed(store):
    folder = fill(store, range(20), 20)
    folder.create_success(PLAN, 20)
    compact(store)
    folder.begin_rework(Redo("failed"), {3: 1}, PLAN)
    folder.commit(make_result(3, "0000000b"), PLAN, 1)
    folder.create_success(PLAN, 20)
    store.delete(layout.rework_key("main", 1))

    assert RunFolder(store).standing()[3].endswith("00003.r1.json")


@pytest.fixture(scope="module")
def whole():
    store = DictStore()
    fill(store, range(5), 5)
    compact(store)
    return store


@given(st.data())
def test_a_torn_or_altered_compaction_is_never_used(whole, data):
    store = DictStore()
    store.objects = dict(whole.objects)
    body = bytearray(store.objects[CKPT])
    place = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        body = body[:place]
    else:
        body[place] ^= 1 << data.draw(st.integers(0, 7))
    store.objects[CKPT] = bytes(body)
    found = newest_compaction(store, "main", PLAN)

    # A flip in an unused byte of the gzip head changes nothing that is read.
    assert found is None or place < 10
    assert RunFolder(store).standing() == RunFolder(whole).standing(certain=True)


@pytest.mark.parametrize(
    "line",
    [
        {"protocol": 3, "plan_id": PLAN, "success": -1},
        {"protocol": 1, "plan_id": "plan-b", "success": -1},
        {"protocol": 1, "plan_id": PLAN},
        [],
        {},
    ],
)
def test_a_compaction_of_another_plan_or_protocol_is_ignored(store, line):
    folder = fill(store, range(5), 5)
    body = gzip.decompress(pack([], PLAN, -1)).splitlines(keepends=True)
    store.put(CKPT, gzip.compress(json.dumps(line).encode() + b"\n" + body[-1]))

    assert newest_compaction(store, "main", PLAN) is None
    assert folder.committed() == set(range(5))


def test_the_one_before_is_used_when_the_newest_is_damaged(store):
    folder = fill(store, range(4), 5)
    compact(store)
    folder.commit(make_result(4), PLAN)
    compact(store)
    store.put(layout.compaction_key("main", 1), b"rotten")

    assert newest_compaction(store, "main", PLAN).number == 0
    assert folder.committed() == set(range(5))
    assert compact(store) == 0
    assert newest_compaction(store, "main", PLAN).number == 2


def test_a_record_that_cannot_be_read_stays_out_of_it(store):
    fill(store, range(5), 5)
    store.put(layout.commit_key("main", 2), b"{rotten")
    compact(store)

    assert sorted(newest_compaction(store, "main", PLAN).revisions) == [0, 1, 3, 4]


def test_nothing_is_written_without_news_or_without_a_job(store):
    RunFolder(store).commit(make_result(0), PLAN)
    assert compact(store) == 0
    fill(store, range(5), 5)
    assert compact(store, at_least=6) == 5
    assert compact(store) == 0
    assert compact(store) == 0

    assert [key for key in store.objects if "/ckpt/" in key] == [CKPT]


@pytest.mark.parametrize("place", ["local", "memory"])
def test_real_stores_keep_and_read_them(place, tmp_path):
    store = open_store(tmp_path) if place == "local" else memory_store()
    folder = fill(store, range(40), 40)
    compact(store)

    assert newest_compaction(store, "main", PLAN).revisions == dict.fromkeys(range(40), 0)
    assert folder.committed() == set(range(40))
    assert len(list(folder.records(certain=True))) == 40


def test_a_compactor_gathers_after_so_many_commits_and_at_the_end(store):
    folder = fill(store, range(0), 50)
    compactor = Compactor(store, every=10)
    for shard_id in range(25):
        folder.commit(make_result(shard_id), PLAN)
        compactor.note()
    compactor.close()

    assert len(newest_compaction(store, "main", PLAN).revisions) >= 20


def test_a_compactor_makes_up_for_runs_that_ended_before_it_was_due(store):
    fill(store, range(25), 50)
    Compactor(store, committed=25, every=10).close()

    assert len(newest_compaction(store, "main", PLAN).revisions) == 25


def test_a_small_run_gets_no_compaction(store):
    fill(store, range(25), 25)
    compactor = Compactor(store, committed=20)
    compactor.note()
    compactor.close()

    assert CKPT not in store.objects


def test_a_store_that_fails_costs_the_compaction_and_nothing_else(store):
    fill(store, range(25), 25)
    failing = FaultStore(store)
    failing.faults = dict.fromkeys(range(1, 200), "fail")
    compactor = Compactor(failing, committed=25, every=10)
    compactor.note()
    compactor.close()
    failing.faults = {}
    compactor.close()

    assert len(newest_compaction(store, "main", PLAN).revisions) == 25

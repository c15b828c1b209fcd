"""Reworks: announced before they begin, one at a time, closed when every revision stands."""

from __future__ import annotations

import json

import pytest

from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError, StorageError
from sdbatch.records import Redo
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.rework import read_rework
from sdbatch.storage.store import open_store
from tests.storage.stores import DictStore, make_result, memory_store

PLAN = "plan-a"
REDO = Redo("failed", ("NonFiniteError", "BlackImageError"), 7)


@pytest.fixture(params=["local", "memory", "dict"])
def store(request, tmp_path):
    stores = {"local": lambda: open_store(tmp_path / "out"), "memory": memory_store}
    return stores.get(request.param, DictStore)()


@pytest.fixture
def folder(store):
    """A finished run of three shards."""
    folder = RunFolder(store)
    for shard_id in range(3):
        folder.commit(make_result(shard_id), PLAN)
    folder.create_success(PLAN, 3)
    return folder


def make(folder, shard_id, revision, attempt="0000000b"):
    assert folder.commit(make_result(shard_id, attempt), PLAN, revision)


def test_a_rework_comes_back_as_it_was_begun(store, folder):
    begun = folder.begin_rework(REDO, {2: 1, 0: 1}, PLAN)

    assert folder.open_rework() == begun
    assert read_rework(store, "main", 1) == begun
    assert (begun.number, begun.redo, begun.shards) == (1, REDO, {0: 1, 2: 1})
    assert store.get(layout.rework_key("main", 1)).count(b"\n") == 1


def test_an_unfinished_run_has_nothing_to_make_again(store):
    folder = RunFolder(store)
    folder.commit(make_result(0), PLAN)

    with pytest.raises(InputError, match="not finished"):
        folder.begin_rework(REDO, {0: 1}, PLAN)
    assert folder.open_rework() is None


def test_a_rework_of_no_shard_is_refused(folder):
    with pytest.raises(InputError, match="no shard"):
        folder.begin_rework(REDO, {}, PLAN)


def test_an_open_rework_is_taken_over_by_whoever_wants_another(folder):
    first = folder.begin_rework(REDO, {0: 1}, PLAN)

    assert folder.begin_rework(Redo("damaged"), {1: 1, 2: 1}, PLAN) == first


def test_an_open_rework_unfinishes_the_run_until_its_success_record(folder):
    before = folder.success()
    assert folder.finished()
    rework = folder.begin_rework(REDO, {0: 1, 2: 1}, PLAN)
    make(folder, 0, 1)

    assert not folder.finished()
    assert folder.success() == before
    assert folder.rework_left(rework) == {2: 1}
    make(folder, 2, 1)
    assert not folder.finished()
    after = folder.create_success(PLAN, 3)
    assert folder.finished()
    assert (folder.success_number(), folder.success()) == (1, after)
    assert folder.open_rework() is None
    assert after["root_sha256"] != before["root_sha256"]


def test_success_waits_for_every_revision_and_says_how_to_go_on(folder, store):
    folder.begin_rework(Redo("damaged"), {0: 1, 2: 1}, PLAN)
    make(folder, 2, 1)

    with pytest.raises(StorageError, match=r"1 of 2 shards of repair 1 .* sdbatch repair"):
        folder.create_success(PLAN, 3)
    assert folder.success_number() == 0


def test_a_finished_run_gets_no_further_success_record(folder, store):
    first = folder.success()
    make(folder, 0, 1)  # no rework says so

    assert folder.create_success(PLAN, 3) == first
    assert folder.success_number() == 0


def test_drivers_that_race_to_close_a_rework_write_the_same(store, folder):
    folder.begin_rework(REDO, {0: 1}, PLAN)
    make(folder, 0, 1)
    scratch = DictStore()
    scratch.objects = {info.key: store.get(info.key) for info in store.list("")}
    RunFolder(scratch).create_success(PLAN, 3)
    folder.create_success(PLAN, 3)

    key = layout.success_key("main", 1)
    assert scratch.get(key) == store.get(key)


def test_a_rework_that_ended_meanwhile_is_noticed(folder):
    wanted = folder.next_revisions([0, 1])
    folder.begin_rework(REDO, {0: 1}, PLAN)
    make(folder, 0, 1)
    folder.create_success(PLAN, 3)

    with pytest.raises(StorageError, match="ended meanwhile"):
        folder.begin_rework(REDO, wanted, PLAN)
    assert folder.next_revisions([0, 1]) == {0: 2, 1: 1}
    assert folder.begin_rework(REDO, {0: 2, 1: 1}, PLAN).number == 2


def test_of_two_that_begin_at_once_one_announces_and_both_go_on_with_it(folder, store):
    other = RunFolder(store)
    begun = []
    create = store.create_once

    def slow(key, data):
        if not begun:
            begun.append(None)
            begun[0] = other.begin_rework(Redo("damaged"), {1: 1}, PLAN)
        return create(key, data)

    store.create_once = slow
    assert folder.begin_rework(REDO, {0: 1}, PLAN) == begun[0]
    assert begun[0].redo.kind == "damaged"


@pytest.mark.parametrize("reworking", [False, True])
def test_a_record_that_rots_before_success_is_made_again_once_it_is_deleted(store, reworking):
    folder = RunFolder(store)
    for shard_id in range(3):
        folder.commit(make_result(shard_id), PLAN)
    if reworking:
        folder.create_success(PLAN, 3)
        folder.begin_rework(REDO, {2: 1}, PLAN)
        make(folder, 2, 1)
    key = layout.commit_key("main", 2, int(reworking))
    store.put(key, b"{rotten")

    with pytest.raises(DamagedError, match=r"delete it and all of .*ckpt") as caught:
        folder.create_success(PLAN, 3)
    assert "\n" not in str(caught.value)
    store.delete(key)
    with pytest.raises(StorageError):
        folder.create_success(PLAN, 3)
    make(folder, 2, int(reworking), "0000000c")
    assert folder.create_success(PLAN, 3)["num_shards"] == 3


def test_no_rework_begins_that_could_not_be_closed(folder, store):
    store.put(layout.commit_key("main", 1), b"{rotten")

    with pytest.raises(DamagedError, match="sdbatch repair first"):
        folder.begin_rework(REDO, {0: 1}, PLAN)
    assert folder.finished()
    assert folder.begin_rework(Redo("damaged"), {0: 1, 1: 1}, PLAN).number == 1


def test_a_lost_record_is_made_again_as_the_revision_that_is_missing(folder, store):
    store.delete(layout.commit_key("main", 1))

    assert folder.next_revisions([0, 1]) == {0: 1, 1: 0}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", DamagedError),
        (b'{"protocol": 1}', DamagedError),
        (b'{"protocol": 1, "redo": 3, "shards": {}}', DamagedError),
        (b'{"protocol": 3}', InputError),
    ],
)
def test_an_unreadable_rework_is_named_and_nothing_is_begun_beside_it(folder, store, body, error):
    store.put(layout.rework_key("main", 1), body)

    for ask in (folder.open_rework, lambda: folder.begin_rework(REDO, {0: 1}, PLAN)):
        with pytest.raises(error) as caught:
            ask()
        assert "rework/1.json" in str(caught.value).replace("\\", "/")
    assert not folder.finished()


def test_a_rework_says_its_word_and_command(folder):
    failed = folder.begin_rework(REDO, {0: 1}, PLAN)

    assert failed.word == "retry"
    assert failed.command("a b") == "sdbatch retry 'a b'"
    assert json.loads(failed.to_line())["redo"]["error_types"] == list(REDO.error_types)
    with pytest.raises(ObjectNotFoundError):
        read_rework(DictStore(), "main", 1)

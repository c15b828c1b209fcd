"""Every store keeps the same promises: one suite, run for each of them."""

from __future__ import annotations

import io
import os
import threading
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import (
    CommitUnknownError,
    InputError,
    ObjectNotFoundError,
    StorageError,
)
from sdbatch.storage.store import check_key, open_store
from tests.storage.stores import FaultStore, memory_store


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return open_store(tmp_path / "out") if request.param == "local" else memory_store()


def test_what_is_put_is_got(store):
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"two")

    assert store.get("a/b.json") == b"two"


def test_an_absent_object_is_named_by_its_place(store):
    with pytest.raises(ObjectNotFoundError) as caught:
        store.get("a/none.json")

    assert str(caught.value) == f"{store.join('a/none.json')}: no such object"
    assert store.head("a/none.json") is None


@pytest.mark.parametrize("read", ["get_file", "open"])
def test_every_way_of_reading_an_absent_object_says_so(store, read, tmp_path):
    arguments = [tmp_path / "copy"] if read == "get_file" else []

    with pytest.raises(ObjectNotFoundError):
        getattr(store, read)("a/none.json", *arguments)


def test_files_come_back_byte_for_byte(store, tmp_path):
    content = os.urandom(300_000)
    (tmp_path / "source").write_bytes(content)

    info = store.put_file("data/x.parquet", tmp_path / "source")
    store.get_file("data/x.parquet", tmp_path / "copy")

    assert info == store.head("data/x.parquet")
    assert info.size_bytes == len(content)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_missing_local_file_is_named(store, tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        store.put_file("data/x.parquet", tmp_path / "nowhere")

    assert store.head("data/x.parquet") is None


def test_readers_seek_independently(store):
    store.put("x", b"0123456789")
    with store.open("x") as one, store.open("x") as two:
        one.seek(-4, io.SEEK_END)
        two.seek(2)

        assert (one.read(2), two.read(2), one.read()) == (b"67", b"23", b"89")


def test_a_listing_is_recursive_sorted_and_by_prefix(store):
    for key in ("b/2", "b/10", "b/c/1", "bb/1", "a"):
        store.put(key, key.encode())

    assert [info.key for info in store.list("")] == ["a", "b/10", "b/2", "b/c/1", "bb/1"]
    assert [info.key for info in store.list("b/")] == ["b/10", "b/2", "b/c/1"]
    assert [info.key for info in store.list("b")] == ["b/10", "b/2", "b/c/1", "bb/1"]
    assert [info.key for info in store.list("b/1")] == ["b/10"]
    assert list(store.list("none/")) == []
    assert {info.key: info.size_bytes for info in store.list("b/c")} == {"b/c/1": 5}


def test_a_listing_shows_what_another_client_has_just_written(store):
    other = open_store(store.url)
    assert not store.exists_any("commits/")
    other.put("commits/1.json", b"1")

    assert [info.key for info in store.list("commits/")] == ["commits/1.json"]
    assert store.exists_any("commits/")
    assert store.list("commits/").__next__() == store.head("commits/1.json")


@pytest.mark.parametrize(
    ("name", "taken"),
    [("a.md", True), ("a", False), ("b", True), ("b/", True), ("b/c", True), ("", True)],
)
def test_a_name_is_taken_by_an_object_or_by_a_folder_with_objects(store, name, taken):
    assert not store.exists_any(name)
    store.put("a.md", b"x")
    store.put("b/c/x", b"x")

    assert store.exists_any(name) == taken


def test_a_tag_changes_with_the_bytes(store):
    store.put("x", b"one")
    before = store.head("x")
    store.put("x", b"two")

    assert store.head("x").tag != before.tag


def test_delete_may_be_repeated(store):
    store.put("a/x", b"1")
    store.delete("a/x")
    store.delete("a/x")
    store.delete("never/there")

    assert not store.exists_any()


def test_create_once_never_changes_what_stands(store):
    assert store.create_once("job.json", b"mine")
    assert store.create_once("job.json", b"mine")
    assert not store.create_once("job.json", b"theirs")
    assert store.get("job.json") == b"mine"


@pytest.mark.parametrize("round_number", range(6))
def test_of_eight_racing_creators_exactly_one_wins(store, round_number):
    start = threading.Barrier(8)
    won: list[int] = []

    def race(number):
        client = open_store(store.url)
        start.wait()
        if client.create_once("record.json", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [b"%d" % number for number in won] == [store.get("record.json")]


def test_a_lost_reply_to_our_own_create_is_a_win(store):
    faulty = FaultStore(store)
    faulty.faults = {1: "lost"}

    assert faulty.create_once("r", b"ours")
    assert store.get("r") == b"ours"


def test_a_lost_reply_after_another_has_won_is_a_loss(store):
    store.create_once("r", b"theirs")
    faulty = FaultStore(store)
    faulty.faults = {1: "lost", 2: "fail"}

    assert not faulty.create_once("r", b"ours")
    assert store.get("r") == b"theirs"


def test_a_create_that_was_not_applied_is_repeated(store):
    faulty = FaultStore(store)
    faulty.faults = {1: "fail", 3: "fail"}

    assert faulty.create_once("r", b"ours")


def test_an_outcome_that_stays_unknown_is_an_error_and_deletes_nothing(store):
    faulty = FaultStore(store)
    faulty.faults = {1: "lost", **dict.fromkeys(range(2, 40), "fail")}

    with pytest.raises(CommitUnknownError):
        faulty.create_once("r", b"ours")

    assert faulty.calls <= 2 * faulty.create_attempts
    assert store.get("r") == b"ours"


def test_a_refused_create_of_an_absent_object_is_repeated(store):
    # Some stores answer "exists" when two writers collided and neither landed.
    faulty = FaultStore(store)
    create, refusals = faulty._create_new, iter([FileExistsError("r")])

    def refuse_first(key, data):
        for refusal in refusals:
            raise refusal
        create(key, data)

    faulty._create_new = refuse_first

    assert faulty.create_once("r", b"ours")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/x",
        "../x",
        "a/../x",
        "a//x",
        "a/",
        "./x",
        "a\\x",
        "a b",
        "ä",
        "a\n",
        ".hidden",
        "a:b",
    ],
)
def test_a_key_that_is_not_plain_words_is_refused(store, key):
    with pytest.raises(InputError, match="object key"):
        store.put(key, b"x")

    assert not store.exists_any()


@given(st.text(alphabet="ab0./\\ -=_\n~ä", max_size=12))
def test_no_accepted_key_leaves_the_root(key):
    try:
        check_key(key)
    except InputError:
        return

    assert Path("/root", key).resolve().is_relative_to("/root")
    assert Path("/root", key).resolve() != Path("/root")


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "hdfs://b/x", "https://host/x", "memory://a::file://b"]
)
def test_an_unsupported_scheme_says_what_is_supported(url):
    with pytest.raises(InputError, match="a local path, file://, memory://, s3://") as caught:
        open_store(url)
    assert caught.value.exit_code == 2


def test_an_empty_path_is_refused():
    with pytest.raises(InputError, match="empty"):
        open_store("")


def test_memory_stores_of_one_name_share_their_objects():
    url = f"memory://{uuid.uuid4().hex}"
    open_store(url).put("a/x", b"1")

    assert open_store(f"{url}/").get("a/x") == b"1"
    assert open_store(url).private

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
from sdbatch.storage import local_store
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


class TestLocal:
    def test_opening_a_store_creates_nothing(self, tmp_path):
        opened = open_store(tmp_path / "out")

        assert list(opened.list("")) == []
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}", "{}/"])
    def test_all_spellings_of_a_path_are_one_store(self, tmp_path, form):
        opened = open_store(form.format(tmp_path / "out"))

        assert opened.url == str(tmp_path / "out")
        assert opened.join("a/b") == str(tmp_path / "out" / "a" / "b")

    def test_relative_and_home_paths_are_made_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))

        assert open_store("out").url == str(tmp_path / "out")
        assert open_store("~/out").url == str(tmp_path / "home" / "out")

    def test_a_file_is_no_store(self, tmp_path):
        (tmp_path / "out").write_text("x")

        with pytest.raises(InputError, match="is a file"):
            open_store(tmp_path / "out")

    def test_links_do_not_lead_out_of_the_root(self, tmp_path):
        (tmp_path / "away").mkdir()
        (tmp_path / "away" / "secret").write_bytes(b"secret")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "data").symlink_to(tmp_path / "away")
        opened = open_store(tmp_path / "out")

        for call in (lambda: opened.get("data/secret"), lambda: opened.put("data/x", b"x")):
            with pytest.raises(InputError, match="leads out of"):
                call()
        assert list(opened.list("")) == []

    def test_a_root_that_is_a_link_itself_works(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "out").symlink_to(tmp_path / "real")
        opened = open_store(tmp_path / "out")
        opened.put("a/x", b"x")

        assert [info.key for info in opened.list("a/")] == ["a/x"]

    def test_unfinished_writes_are_not_listed_and_can_be_swept(self, tmp_path):
        opened = open_store(tmp_path)
        opened.put("data/x", b"x")
        opened.put("data/run=b/x", b"x")
        (tmp_path / "data" / ".x.00.tmp").write_bytes(b"half")
        (tmp_path / "data" / "run=b" / ".x.00.tmp").write_bytes(b"half")

        assert [info.key for info in opened.list("data/")] == ["data/run=b/x", "data/x"]
        assert opened.sweep("data/") == 1
        assert opened.sweep("data/", deep=True) == 1
        assert opened.sweep("none/") == 0
        assert opened.get("data/x") == b"x"

    @pytest.mark.parametrize("call", ["put", "_create_new"])
    def test_a_write_that_fails_leaves_neither_object_nor_leftover(
        self, tmp_path, monkeypatch, call
    ):
        opened = open_store(tmp_path)

        def no_space(handle):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(local_store.os, "fsync", no_space)
        (tmp_path / "a").mkdir()
        with pytest.raises(StorageError, match=r"No space left on device, make room"):
            getattr(opened, call)("a/x", b"x")

        assert list((tmp_path / "a").iterdir()) == []

    def test_a_failed_replacement_keeps_the_old_object(self, tmp_path, monkeypatch):
        opened = open_store(tmp_path)
        opened.put("a/x", b"old")
        monkeypatch.setattr(local_store.os, "fsync", _raise(OSError(5, "Input/output error")))
        with pytest.raises(StorageError, match="Input/output error"):
            opened.put("a/x", b"new")

        assert opened.get("a/x") == b"old"

    def test_a_file_system_without_hard_links_is_refused(self, tmp_path, monkeypatch):
        opened = open_store(tmp_path)
        monkeypatch.setattr(local_store.os, "link", _raise(OSError(1, "not permitted")))

        with pytest.raises(StorageError, match="no hard links"):
            opened.create_once("r", b"x")

    def test_a_link_whose_outcome_is_unknown_is_read_back(self, tmp_path, monkeypatch):
        opened = open_store(tmp_path)
        link = os.link

        def link_and_lose(source, target):
            link(source, target)
            raise OSError(116, "Stale file handle")

        monkeypatch.setattr(local_store.os, "link", link_and_lose)

        assert opened.create_once("r", b"x")

    def test_a_file_where_a_folder_is_needed_is_one_clear_line(self, tmp_path):
        (tmp_path / "data").write_text("a file")
        opened = open_store(tmp_path)

        with pytest.raises(StorageError, match="a file stands where a folder is needed"):
            opened.put("data/x", b"x")
        assert opened.head("data/x") is None

    def test_a_shorter_copy_never_reaches_the_final_name(self, tmp_path, monkeypatch):
        opened = open_store(tmp_path / "out")
        (tmp_path / "source").write_bytes(b"0123456789")

        def short_copy(source, target):
            Path(target).write_bytes(Path(source).read_bytes()[:4])

        monkeypatch.setattr(local_store.shutil, "copyfile", short_copy)
        with pytest.raises(StorageError, match="10 bytes, but 4 arrived"):
            opened.put_file("data/x", tmp_path / "source")

        assert opened.head("data/x") is None


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "gs://b/x", "https://host/x", "memory://a::file://b"]
)
def test_an_unsupported_scheme_says_what_is_supported(url):
    with pytest.raises(StorageError, match="a local path, file:// or memory://"):
        open_store(url)


def test_an_empty_path_is_refused():
    with pytest.raises(InputError, match="empty"):
        open_store("")


def test_memory_stores_of_one_name_share_their_objects():
    url = f"memory://{uuid.uuid4().hex}"
    open_store(url).put("a/x", b"1")

    assert open_store(f"{url}/").get("a/x") == b"1"
    assert open_store(url).private


def _raise(error):
    def fail(*_args):
        raise error

    return fail

"""Every store keeps the same promises: one suite over disk, memory and three servers.

The servers are SeaweedFS (S3), fake-gcs-server and azurite. What is promised is what the
commit protocol stands on, and what clients were seen to get wrong: who wins a race, what a
listing shows, which bytes come back.
"""

from __future__ import annotations

import io
import os
import threading
import uuid

import pytest

from sdbatch.errors import (
    CommitUnknownError,
    DamagedError,
    ObjectNotFoundError,
    StorageError,
    StoreAccessError,
)
from sdbatch.storage.probe import probe
from sdbatch.storage.store import open_store
from tests.storage.stores import FaultStore

KINDS = ("local", "memory", "s3", "gs", "az")
LARGE = 17 << 20  # above twice a chunk: several requests, and the last part is a short one


@pytest.fixture(
    params=[
        pytest.param(kind, marks=pytest.mark.stores if kind in ("s3", "gs", "az") else ())
        for kind in KINDS
    ]
)
def store(request, tmp_path, reach):
    if request.param == "local":
        return open_store(tmp_path / "out")
    if request.param == "memory":
        return open_store(f"memory://t-{uuid.uuid4().hex}")
    return reach(request.getfixturevalue(f"{request.param}_server")).open()


def race(store, writers, key="record.json", size=0):
    """Who won a race of separate clients, and what stands."""
    start, won, lock = threading.Barrier(writers), [], threading.Lock()

    def enter(number):
        client = open_store(store.url)
        client.head("warm")  # connections are made before the race
        body = b"%d" % number + bytes(size)
        start.wait()
        if client.create_once(key, body):
            with lock:
                won.append(body)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won, store.get(key)


@pytest.mark.parametrize("round_number", range(4))
def test_of_racing_clients_exactly_one_wins_and_its_bytes_stand(store, round_number):
    won, stands = race(store, 6)

    assert won == [stands]


def test_of_racing_clients_with_larger_records_exactly_one_wins(store):
    won, stands = race(store, 4, size=1 << 20)

    assert won == [stands]


def test_an_empty_object_is_created_once_too(store):
    assert store.create_once("a/empty", b"")
    assert not store.create_once("a/empty", b"x")
    assert store.get("a/empty") == b""
    assert store.head("a/empty").size_bytes == 0


def test_a_created_object_never_changes(store):
    assert store.create_once("job.json", b"mine")
    assert store.create_once("job.json", b"mine")
    assert not store.create_once("job.json", b"theirs")
    assert store.get("job.json") == b"mine"


def test_a_store_tells_exists_from_every_other_failure(store):
    store._create_new("r", b"first")

    with pytest.raises(FileExistsError):
        store._create_new("r", b"second")
    assert store.get("r") == b"first"


def test_a_lost_reply_to_our_own_create_is_a_win_and_to_anothers_a_loss(store):
    faulty = FaultStore(store)
    faulty.faults = {1: "lost"}
    assert faulty.create_once("r", b"ours")

    faulty.faults = {faulty.calls + 1: "lost", faulty.calls + 2: "fail"}
    assert not faulty.create_once("r", b"others")
    assert store.get("r") == b"ours"


def test_an_outcome_that_stays_unknown_deletes_nothing(store):
    faulty = FaultStore(store)
    faulty.faults = {1: "lost", **dict.fromkeys(range(2, 40), "fail")}

    with pytest.raises(CommitUnknownError):
        faulty.create_once("r", b"ours")
    assert store.get("r") == b"ours"


def test_a_listing_is_fresh_sorted_recursive_and_by_prefix(store):
    other = open_store(store.url)
    assert list(store.list("")) == []
    assert store.head("b/2") is None
    for key in ("b/2", "b/10", "b/c/1", "bb/1", "a"):
        other.put(key, key.encode())

    assert [info.key for info in store.list("")] == ["a", "b/10", "b/2", "b/c/1", "bb/1"]
    assert [info.key for info in store.list("b/")] == ["b/10", "b/2", "b/c/1"]
    assert [info.key for info in store.list("b/1")] == ["b/10"]
    assert list(store.list("none/")) == []
    assert next(store.list("b/2")) == store.head("b/2")
    other.delete("b/2")
    assert [info.key for info in store.list("b/")] == ["b/10", "b/c/1"]
    assert store.exists_any("b")
    assert not store.exists_any("c")


def test_many_prefixes_are_listed_in_the_order_asked(store):
    for folder in range(5):
        store.put(f"commits/{folder:03d}/x", b"1")
        store.put(f"commits/{folder:03d}/y", b"1")

    found = [info.key for info in store.list_many(["commits/003/", "none/", "commits/000/"])]
    assert found == ["commits/003/x", "commits/003/y", "commits/000/x", "commits/000/y"]
    assert list(store.list_many([])) == []


@pytest.mark.parametrize("size", [0, 1, 300_000, LARGE])
def test_files_come_back_byte_for_byte(store, tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "source").write_bytes(content)

    info = store.put_file("data/x.parquet", tmp_path / "source")
    store.get_file("data/x.parquet", tmp_path / "copy")

    assert info == store.head("data/x.parquet")
    assert info.size_bytes == size
    assert (tmp_path / "copy").read_bytes() == content
    assert store.get("data/x.parquet") == content


def test_a_large_value_is_put_whole(store):
    content = os.urandom(LARGE)
    store.put("x", content)

    assert store.get("x") == content


def test_readers_seek_independently_in_small_and_in_large_objects(store):
    content = os.urandom(LARGE)
    store.put("large", content)
    store.put("small", b"0123456789")

    with store.open("large") as one, store.open("large") as two, store.open("small") as small:
        one.seek(-4, io.SEEK_END)
        two.seek(9_000_000)
        assert one.read() == content[-4:]
        assert two.read(4_000_000) == content[9_000_000:13_000_000]
        assert two.tell() == 13_000_000
        assert one.read() == b""
        small.seek(7)
        assert small.read() == b"789"


BOUNDARIES = [b"\n--==0==--", b"\r\n--==0==--\r\n", b"--==0==\nContent-Type: a/b\n\n"]


@pytest.mark.parametrize("poison", BOUNDARIES)
def test_no_bytes_end_an_object_early(store, tmp_path, poison):
    content = b"before" + poison + os.urandom(900)
    (tmp_path / "source").write_bytes(content)
    store.put("put", content)
    store.put_file("file", tmp_path / "source")
    store.create_once("once", content)

    assert [store.get(key) for key in ("put", "file", "once")] == [content] * 3


def test_an_upload_replaces_only_as_a_whole(store, tmp_path):
    (tmp_path / "long").write_bytes(b"x" * 1000)
    (tmp_path / "short").write_bytes(b"y")
    store.put_file("a", tmp_path / "long")
    before = store.head("a").tag
    store.put_file("a", tmp_path / "short")

    assert store.get("a") == b"y"
    assert store.head("a").tag != before


def test_an_absent_object_is_absent_to_every_verb(store, tmp_path):
    assert store.head("a/none") is None
    store.delete("a/none")
    for read in (store.get, store.open, lambda key: store.get_file(key, tmp_path / "x")):
        with pytest.raises(ObjectNotFoundError):
            read("a/none")


def test_a_missing_local_file_is_named_and_nothing_is_stored(store, tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        store.put_file("data/x", tmp_path / "nowhere")
    assert store.head("data/x") is None


def test_a_sound_store_passes_the_probe_and_keeps_nothing_of_it(store):
    probe(store)

    assert list(store.list("")) == []


# -- what only servers can be asked -----------------------------------------------------------


def test_what_is_stored_is_proven_by_the_store_itself(cloud, tmp_path):
    store = cloud.open()
    read = []
    store._read = lambda *what: read.append(what)
    for size in (10, LARGE):
        (tmp_path / "source").write_bytes(os.urandom(size))
        store.put_file(f"data/{size}", tmp_path / "source")

    assert read == []  # the checksum that the store tells was enough


def test_an_object_that_is_not_what_was_sent_is_damaged(cloud, tmp_path):
    store = cloud.open(patience=quick())
    (tmp_path / "source").write_bytes(b"0123456789")
    put = store._put

    async def spoil(name, data, md5, *, only_new):
        from sdbatch.storage.digests import md5_of

        wrong = b"9876543210"
        await put(name, wrong, md5_of(wrong), only_new=only_new)

    store._put = spoil
    with pytest.raises(DamagedError, match="another checksum"):
        store.put_file("data/x", tmp_path / "source")


def test_a_missing_bucket_says_who_must_act(cloud, tmp_path):
    store = open_store(f"{cloud.kind}://no-such-bucket-here/x")
    calls = (
        lambda: store.put("a", b"x"),
        lambda: store.create_once("a", b"x"),
        lambda: list(store.list("")),
    )
    for call in calls:
        with pytest.raises(StoreAccessError, match="create it or name another") as caught:
            call()
        assert not caught.value.retryable
        assert "\n" not in str(caught.value)


def test_an_object_that_changes_between_two_reads_is_never_mixed(cloud):
    store = cloud.open()
    store.put("x", b"a" * LARGE)
    with store.open("x") as reader:
        assert reader.read(10) == b"a" * 10
        store.put("x", b"b" * LARGE)
        reader.seek(LARGE - 10)
        with pytest.raises(StorageError, match=r"changed while it was read|no such object"):
            reader.read()


def test_an_exception_in_the_middle_of_a_write_stores_nothing(cloud, tmp_path):
    store = cloud.open()
    (tmp_path / "source").write_bytes(os.urandom(LARGE))
    do, sent = store._do, []

    def cut(key, doing, request, patience=None):
        if doing in ("send", "complete"):
            sent.append(doing)
            if len(sent) == 2:
                raise KeyboardInterrupt
        return do(key, doing, request, patience)

    store._do = cut
    with pytest.raises(KeyboardInterrupt):
        store.put_file("data/x", tmp_path / "source")
    del store._do

    assert store.head("data/x") is None
    assert list(store.list("")) == []


def test_a_key_that_names_a_version_is_refused_not_shortened(cloud):
    from sdbatch.errors import InputError

    store = cloud.open()
    for key in ("a?versionId=1", "a%3FversionId=1", "a?versionid=1", "a#1"):
        with pytest.raises(InputError, match="object key"):
            store.put(key, b"x")
    for url in (f"{store.url}?versionId=1", f"{store.url}//x", f"{store.url}/../x"):
        with pytest.raises(InputError):
            open_store(url)


def test_two_clients_of_one_process_see_each_others_writes_at_once(cloud):
    first = cloud.open()
    second = open_store(first.url)
    for number in range(5):
        first.put(f"d/{number}", b"x")
        assert len(list(second.list("d/"))) == number + 1
        assert second.head(f"d/{number}") is not None


def quick():
    """Patience for tests: seconds instead of a minute."""
    from sdbatch.storage.retrying import Patience

    return Patience(call_s=2.0, verb_s=8.0, pause_s=0.02, longest_pause_s=0.3)

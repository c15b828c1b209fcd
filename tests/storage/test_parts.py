"""Parts: used when they fit, ignored when they do not."""

from __future__ import annotations

import pytest

from sdbatch.errors import LocalDiskError
from sdbatch.storage import layout
from sdbatch.storage.parts import Parts
from sdbatch.storage.store import open_store
from tests.storage.stores import memory_store

IMAGES = [(3, 0), (1, 1)]


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return open_store(tmp_path / "out") if request.param == "local" else memory_store()


@pytest.fixture
def part_file(tmp_path):
    path = tmp_path / "part"
    path.write_bytes(b"pictures")
    return path


def test_a_stored_part_is_listed_and_fetched(store, part_file, tmp_path):
    parts = Parts(store)
    stored = parts.store(4, "0a1b2c3d", 0, part_file, IMAGES)
    (listed,) = parts.list(4)

    assert listed == stored
    assert listed.images == tuple(IMAGES)
    assert parts.fetch(listed, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"pictures"


def test_shards_and_runs_keep_their_parts_apart(store, part_file):
    Parts(store).store(4, "0a1b2c3d", 0, part_file, IMAGES)

    assert Parts(store).list(5) == []
    assert Parts(store, "n2").list(4) == []


def test_revisions_keep_their_parts_apart(store, part_file):
    parts = Parts(store)
    parts.store(4, "0a1b2c3d", 0, part_file, IMAGES)
    second = parts.store(4, "0a1b2c3d", 1, part_file, IMAGES, revision=1)

    assert [part.number for part in parts.list(4)] == [0]
    assert parts.list(4, revision=1) == [second]
    parts.drop(4)
    assert parts.list(4, revision=1) == [second]
    parts.drop(4, revision=1)
    assert parts.list(4, revision=1) == []


@pytest.mark.parametrize("content", [None, b"picturez", b"pict"])
def test_a_part_that_is_missing_or_differs_is_not_used(store, part_file, tmp_path, content):
    parts = Parts(store)
    part = parts.store(4, "0a1b2c3d", 0, part_file, IMAGES)
    if content is None:
        store.delete(part.key)
    else:
        store.put(part.key, content)

    assert not parts.fetch(part, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"protocol": 2}', b'{"protocol": 1, "key": "x", "images": [[1]]}'],
)
def test_a_bad_description_is_ignored(store, part_file, body):
    parts = Parts(store)
    parts.store(4, "0a1b2c3d", 0, part_file, IMAGES)
    store.put(layout.part_key("main", 4, "0a1b2c3d", 1, "json"), body)

    assert [part.number for part in parts.list(4)] == [0]


def test_a_description_cannot_point_elsewhere(store, part_file):
    parts = Parts(store)
    parts.store(4, "0a1b2c3d", 0, part_file, IMAGES)
    body = store.get(layout.part_key("main", 4, "0a1b2c3d", 0, "json"))
    store.put(layout.part_key("main", 4, "0a1b2c3d", 1, "json"), body)

    assert len(parts.list(4)) == 1


def test_dropping_parts_may_be_repeated(store, part_file):
    parts = Parts(store)
    parts.store(4, "0a1b2c3d", 0, part_file, IMAGES)
    parts.drop(4)
    parts.drop(4)

    assert not store.exists_any(layout.parts_prefix("main"))


def test_a_full_disk_under_a_fetched_part_is_that_of_the_node(tmp_path, monkeypatch):
    store = open_store(tmp_path / "out")
    (tmp_path / "part").write_bytes(b"x")
    part = Parts(store).store(0, "0000000a", 0, tmp_path / "part", [(0, 0)])

    def full(source, _target):
        raise OSError(28, "No space left on device", str(source))

    monkeypatch.setattr("sdbatch.storage.local_store.shutil.copyfile", full)
    with pytest.raises(LocalDiskError, match="No space left") as caught:
        Parts(store).fetch(part, tmp_path / "fetched")

    assert caught.value.path == str(tmp_path / "fetched")

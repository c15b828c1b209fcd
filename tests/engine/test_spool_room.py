"""Whether a disk can hold what the workers of its node will write."""

import shutil
import socket
from collections import namedtuple

import pytest

from sdbatch.engine import spool_room
from sdbatch.engine.own_folder import own_folder
from sdbatch.engine.spool_room import reserve, spool_bytes
from sdbatch.errors import LocalDiskError
from tests.engine.standin import make_shards

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """Says how many bytes the disk has."""

    def say(num_bytes):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, num_bytes))

    return say


def test_a_worker_needs_four_times_the_largest_shard_of_the_largest_pictures():
    shards = make_shards(2, 100)

    need = spool_bytes(shards, [(64, 64), (512, 512)])

    assert 4 * 100 * 512 * 512 < need < 4 * 100 * 512 * 512 * 3
    assert spool_bytes([], [(64, 64)]) == 0
    assert spool_bytes(shards, []) == 0


def test_room_for_all_is_room_for_each(tmp_path, free):
    free(300)
    with own_folder("w-", tmp_path) as first, own_folder("w-", tmp_path) as second:
        reserve(first, 150, "w-")
        reserve(second, 150, "w-")


def test_workers_of_one_node_add_up_and_the_line_says_what_is_there_and_needed(tmp_path, free):
    free(3_000_000_000)
    with own_folder("w-", tmp_path) as first, own_folder("w-", tmp_path) as second:
        reserve(first, 2_000_000_000, "w-")
        with pytest.raises(LocalDiskError) as caught:
            reserve(second, 2_000_000_000, "w-")

    line = str(caught.value)
    assert line.startswith(f"node {socket.gethostname()}, {tmp_path}: 3.0 GB free, 2 workers")
    assert "need 4.0 GB" in line
    assert caught.value.retryable


def test_the_one_that_came_first_is_not_refused_for_the_one_that_came_later(tmp_path, free):
    free(100)
    with own_folder("w-", tmp_path) as first, own_folder("w-", tmp_path) as later:
        reserve(first, 80, "w-")
        with pytest.raises(LocalDiskError):
            reserve(later, 80, "w-")
        reserve(first, 80, "w-")


def test_what_a_worker_has_written_is_not_counted_twice(tmp_path, free):
    free(1100)
    with own_folder("w-", tmp_path) as first, own_folder("w-", tmp_path) as second:
        reserve(first, 1000, "w-")
        (first / "spool.bin").write_bytes(bytes(950))
        free(150)
        reserve(second, 90, "w-")
        with pytest.raises(LocalDiskError):
            reserve(second, 200, "w-")


def test_the_need_of_a_killed_worker_is_forgotten(tmp_path, free):
    free(100)
    dead = tmp_path / "w-dead"
    dead.mkdir()
    (dead / "owner").touch()
    (dead / spool_room.NEED).write_text("1000000")
    with own_folder("w-", tmp_path) as folder:
        reserve(folder, 90, "w-")

    assert not dead.exists()

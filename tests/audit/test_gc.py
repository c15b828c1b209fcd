"""gc removes what nobody can ever name, and nothing else."""

from __future__ import annotations

import pytest

from sdbatch.audit.gc import collect_orphans
from sdbatch.audit.verify import verify
from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.store import open_store
from tests.audit.tiny_dataset import memory_store, write_dataset

LEFT_OVER = [
    layout.data_key("data", 1, 3, "ffffffff"),
    layout.data_key("filtered", 0, 3, "ffffffff"),
    layout.part_key("main", 1, "ffffffff", 0, "json"),
    layout.part_key("main", 1, "ffffffff", 0, "parquet"),
    layout.token_key("abc-w0"),
]
NOT_OURS = [
    "data/notes.txt",
    "README.md",
    layout.data_key("data", 0, 1, "ffffffff", "n2"),
    layout.part_key("n2", 0, "ffffffff", 0, "json"),
]


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return open_store(tmp_path / "out") if request.param == "local" else memory_store()


def test_before_success_nothing_is_deleted(store):
    write_dataset(store, success=False)
    store.put(LEFT_OVER[0], b"x")

    with pytest.raises(InputError, match="not finished"):
        collect_orphans(store)
    assert store.head(LEFT_OVER[0])


def test_only_what_no_record_names_is_deleted(store):
    write_dataset(store)
    for key in (*LEFT_OVER, *NOT_OURS):
        store.put(key, b"x")

    assert collect_orphans(store, dry_run=True) == sorted(LEFT_OVER)
    assert all(store.head(key) for key in LEFT_OVER)
    assert collect_orphans(store) == sorted(LEFT_OVER)
    assert collect_orphans(store) == []
    assert all(store.head(key) for key in NOT_OURS)
    assert verify(store, level=3).exit_code == 0


def test_half_written_files_of_dead_writers_go_too(tmp_path):
    store = open_store(tmp_path)
    write_dataset(store)
    write_dataset(store, "n2", success=False)
    half = tmp_path / "data" / ".train-00001.ffff.tmp"
    other = tmp_path / "data" / "run=n2" / ".train-00001.ffff.tmp"
    for path in (half, other):
        path.write_bytes(b"half")
    collect_orphans(store)

    assert not half.exists()
    assert other.exists()

"""The files of a dataset at any moment: those of standing records, and no others."""

import pytest

from sdbatch.audit.committed_files import committed_files
from sdbatch.errors import InputError
from sdbatch.storage import layout
from tests.audit.tiny_dataset import memory_store, shard_rows, write_dataset, write_job, write_shard


def keys(store, *args):
    return [file.key for file in committed_files(store, *args)]


def test_only_files_of_standing_records_are_named():
    store = memory_store()
    write_dataset(store, shards=(0, 2), success=False)
    store.put(layout.data_key("data", 1, 3, "ffffffff"), b"an attempt that is under way")
    files = list(committed_files(store))

    assert [file.shard_id for file in files] == [0, 2]
    assert all(store.get(file.key) and file.url == store.join(file.key) for file in files)
    assert sum(file.num_rows for file in files) == 6


def test_each_kind_has_its_files_and_all_have_all():
    store = memory_store()
    write_dataset(store)
    kinds = {kind: keys(store, kind) for kind in layout.KINDS}

    assert {kind: len(found) for kind, found in kinds.items()} == {
        "data": 3, "metadata": 3, "errors": 1, "filtered": 0,
    }  # fmt: skip
    assert sorted(keys(store, None)) == sorted(key for found in kinds.values() for key in found)


def test_a_revision_takes_the_place_of_what_stood():
    store = memory_store()
    write_dataset(store)
    before = keys(store)
    from sdbatch.storage.commit import RunFolder
    from tests.audit.tiny_dataset import PLAN

    data, errors = shard_rows(1)
    other = memory_store()
    write_job(other)
    result = write_shard(other, 1, data, errors, attempt="11111111")
    for kind in ("data", "metadata", "errors"):
        key = layout.data_key(kind, 1, 3, "11111111")
        store.put(key, other.get(key))
    RunFolder(store).commit(result, PLAN, revision=1)

    assert [key for key in keys(store) if key not in before] == [result.data.key]
    assert len(keys(store)) == 3


def test_a_run_that_has_committed_nothing_has_no_files():
    store = memory_store()
    write_job(store)

    assert keys(store) == []


def test_no_run_and_no_such_kind_are_refused_at_once():
    with pytest.raises(InputError, match="holds no run"):
        committed_files(memory_store())
    with pytest.raises(InputError, match="one of data, metadata, errors, filtered"):
        committed_files(memory_store(), "pictures")

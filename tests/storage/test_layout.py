"""Keys: plain, parseable, and of one run only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.store import check_key

shards = st.integers(0, layout.MAX_SHARDS - 1)
attempts = st.integers(0, 2**32 - 1).map(lambda number: f"{number:08x}")


@given(shards, st.integers(0, 30))
def test_a_commit_key_says_shard_and_revision(shard_id, revision):
    key = layout.commit_key("main", shard_id, revision)
    check_key(key)

    assert layout.parse_commit(key) == (shard_id, revision)
    assert key.startswith(layout.commit_prefix("main", shard_id))


@given(st.sampled_from(layout.KINDS), shards, attempts, st.sampled_from(["main", "20260101"]))
def test_a_dataset_file_is_parsed_by_its_own_run_alone(kind, shard_id, attempt, run):
    key = layout.data_key(kind, shard_id, 100_000, attempt, run)
    other = "20260102" if run == "main" else "main"
    check_key(key)

    assert layout.parse_data(key, run) == layout.FileName(kind, shard_id, 100_000, attempt)
    assert layout.parse_data(key, other) is None


def test_names_are_those_that_readers_know():
    assert (
        layout.data_key("data", 12, 42, "0a1b2c3d") == "data/train-00012-of-00042-0a1b2c3d.parquet"
    )
    assert layout.data_key("errors", 0, 7, "0a1b2c3d", "n2").startswith("errors/run=n2/train-00000")
    assert layout.commit_key("main", 300) == "__sdbatch/main/commits/001/00300.json"
    assert layout.commit_key("main", 1, 2) == "__sdbatch/main/commits/000/00001.r2.json"
    assert layout.content_key("main", "plan", "ab" * 8) == f"__sdbatch/main/plan-{'ab' * 8}.parquet"
    assert layout.lease_key("main", 3) == "__sdbatch/main/lease/000003.json"
    assert layout.part_key("main", 5, "0a1b2c3d", 2, "json").endswith("/00005/0a1b2c3d-0002.json")
    assert layout.part_key("main", 5, "0a1b2c3d", 2, "json", 1).endswith(
        "/00005.r1/0a1b2c3d-0002.json"
    )
    assert layout.compaction_key("main", 4) == "__sdbatch/main/ckpt/4.jsonl.gz"
    assert layout.rework_key("main", 1) == "__sdbatch/main/rework/1.json"
    assert layout.stop_key("main", 9) == "__sdbatch/main/stop/000009"


@pytest.mark.parametrize(
    "key", ["data/README.md", "data/x.parquet", "train-00000-of-00001-0a1b2c3d.parquet"]
)
def test_files_that_we_did_not_name_are_none_of_ours(key):
    assert layout.parse_data(key) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: layout.job_key("../main"),
        lambda: layout.job_key("Main"),
        lambda: layout.data_key("data", 0, 1, "0a1b2c3d", "a/b"),
        lambda: layout.data_key("data", 0, 1, "../../xx"),
        lambda: layout.commit_key("main", layout.MAX_SHARDS),
        lambda: layout.commit_key("main", -1),
        lambda: layout.token_key("a/b"),
        lambda: layout.content_key("main", "plan", "zz"),
        lambda: layout.content_key("main", "secrets", "ab" * 8),
    ],
)
def test_nothing_foreign_enters_a_key(make):
    with pytest.raises(InputError):
        make()


def test_a_heartbeat_is_no_epoch():
    assert layout.parse_epoch(layout.lease_key("main", 7)) == 7
    assert layout.parse_epoch(layout.heartbeat_key("main", 7)) is None
    assert layout.parse_success(layout.success_key("main", 11)) == 11
    assert layout.parse_rework(layout.rework_key("main", 12)) == 12
    assert layout.parse_compaction(layout.compaction_key("main", 13)) == 13
    assert layout.parse_stop(layout.stop_key("main", 14)) == 14


def test_a_lease_and_its_heartbeat_tell_their_epoch():
    for key in (layout.lease_key, layout.heartbeat_key):
        assert layout.parse_lease(key("main", 12)) == 12
    assert layout.parse_lease(layout.stop_key("main", 12)) is None

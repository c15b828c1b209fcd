"""How a run ended stands beside its dataset, for those who ask when the driver is gone."""

import pytest

import sdbatch
from sdbatch import api
from sdbatch.engine.last_word import last_word
from sdbatch.errors import InputError, LeaseHeldError, StorageError
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store
from tests.storage.stores import memory_store

OPTIONS = {"engine": "inline", "size": "64x64"}


@pytest.fixture
def folder():
    return RunFolder(memory_store(), "main")


def test_an_error_leaves_its_code_and_reason_and_what_was_said_before(folder):
    folder.write_progress({"done": 7})
    with pytest.raises(StorageError), last_word(folder):
        raise StorageError("bucket is gone")
    said = folder.read_progress()

    assert said["done"] == 7
    assert said["ended"]["exit_code"] == 3
    assert said["ended"]["reason"] == "bucket is gone"
    assert said["ended"]["at"] <= said["at"]


@pytest.mark.parametrize("error", [InputError("no such model"), LeaseHeldError("another driver")])
def test_who_began_nothing_or_lost_the_lease_leaves_no_word(folder, error):
    with pytest.raises(type(error)), last_word(folder):
        raise error

    assert folder.read_progress() is None


def test_a_block_without_a_summary_leaves_no_word(folder):
    with last_word(folder):
        pass

    assert folder.read_progress() is None


def ended(out):
    return RunFolder(open_store(out), "main").read_progress()["ended"]


def test_a_finished_run_says_so(tmp_path):
    summary = sdbatch.render(prompt=["a"], out=tmp_path, model="fake", **OPTIONS)

    assert summary.worker_hours > 0
    assert summary.gpu_hours == 0
    assert (ended(tmp_path)["exit_code"], ended(tmp_path)["reason"]) == (0, "")


def test_a_run_that_its_failures_ended_says_4_until_it_is_resumed(tmp_path):
    rows = [{"prompt": str(number)} for number in range(40)]
    options = OPTIONS | {"model": "fake:fail=0.5", "shard_size": 4}
    summary = sdbatch.render(rows, tmp_path, stop_after_failed=3, **options)

    assert summary.exit_code == 4
    assert ended(tmp_path)["exit_code"] == 4
    assert "pictures failed, the limit is 3" in ended(tmp_path)["reason"]
    assert api.open_dataset(tmp_path).status().exit_code == 4

    again = sdbatch.render(rows, tmp_path, allow_failed="100%", **options)
    assert again.exit_code == 0
    assert ended(tmp_path)["exit_code"] == 0


def test_a_run_whose_time_is_over_is_resumable(tmp_path):
    rows = [{"prompt": str(number)} for number in range(60)]
    options = OPTIONS | {"model": "fake:ms=50", "shard_size": 4}
    summary = sdbatch.render(rows, tmp_path, stop_after="1s", drain="20s", **options)

    assert summary.exit_code == 75
    assert summary.reason == "--stop-after 1s is over"
    assert ended(tmp_path)["exit_code"] == 75
    assert sdbatch.render(rows, tmp_path, **options).exit_code == 0


def test_a_reason_is_left_without_secrets(folder):
    with pytest.raises(StorageError), last_word(folder):
        raise StorageError("s3://key:a/K7MDENG@pictures/x: is gone")

    assert "K7MDENG" not in folder.read_progress()["ended"]["reason"]

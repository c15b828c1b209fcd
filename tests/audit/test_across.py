"""Several runs in one dataset: questions are about all of them, or about the one named."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.audit.status_text import describe
from sdbatch.errors import InputError
from sdbatch.storage import layout
from sdbatch.storage.store import open_store

FAKE = {"engine": "inline", "size": "64x64", "model": "fake:fail=0.2", "shard_size": 20}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Three nights of rows of which a fifth fails."""
    folder = tmp_path_factory.mktemp("nights")
    for night, name in enumerate([None, "n1", "n2"]):
        path = folder / f"{night}.parquet"
        rows = [f"night {night} picture {i}" for i in range(30)]
        pq.write_table(pa.table({"prompt": rows, "night": [night] * 30}), path)
        named = {"append": name} if name else {}
        api.render(str(path), folder / "out", **named, **FAKE)
    return folder / "out"


def test_status_adds_all_runs_up_and_names_each(out):
    dataset = api.open_dataset(out)
    whole, runs = dataset.status(), [dataset.status(run=run) for run in dataset.runs()]

    assert [one.run for one in runs] == ["main", "n1", "n2"]
    assert (whole.run, whole.images, whole.state) == ("all", 90, "done_with_failures")
    assert (whole.failed, whole.success) == (
        sum(one.failed for one in runs), sum(one.success for one in runs)
    )  # fmt: skip
    assert whole.errors == {"FakeError": whole.failed}
    assert whole.exit_code == 4
    text = describe(whole)
    assert all(
        f"run {name}: done with failures, 30 of 30 images" in text for name in dataset.runs()
    )


def test_verify_looks_at_all_runs_and_names_what_is_damaged(out, tmp_path):
    store, dataset = open_store(out), api.open_dataset(out)
    sound = dataset.verify(2)
    record = next(info for info in store.list(layout.data_prefix("metadata", "n1")))
    kept = store.get(record.key)

    assert (sound.exit_code, sound.images, sound.shards) == (0, 90, 6)
    try:
        store.delete(record.key)
        damaged = dataset.verify()
        assert damaged.exit_code == 3
        assert [one.key for one in damaged.problems] == [record.key]
        assert dataset.verify(run="main").exit_code == dataset.verify(run="n2").exit_code == 0
    finally:
        store.put(record.key, kept)


def test_failures_of_all_runs_are_one_list_and_the_command_names_the_run(out):
    dataset = api.open_dataset(out)
    whole = dataset.failures()

    assert whole.failed == dataset.errors().num_rows
    assert sum(dataset.failures(run=run).failed for run in dataset.runs()) == whole.failed
    assert "--run n2" in dataset.failures(run="n2").groups[0].command
    assert "--run" not in dataset.failures(run="main").groups[0].command


def test_tables_and_files_are_those_of_all_runs(out):
    dataset = api.open_dataset(out)

    assert dataset.to_table(["night"]).num_rows == dataset.status().success
    assert len(dataset.files()) == 6
    assert {path.split("run=")[-1].split("/")[0] for path in dataset.files()[2:]} == {"n1", "n2"}


def test_logs_are_those_of_the_run_that_was_driven_last(out):
    dataset = api.open_dataset(out)

    sessions = {line.session for line in dataset.logs()}
    assert sessions == {line.session for line in dataset.logs(run="n2")}
    assert sessions != {line.session for line in dataset.logs(run="main")}


@pytest.mark.parametrize("ask", ["status", "verify", "failures", "logs", "collect_orphans"])
def test_a_run_that_is_not_here_is_refused_with_those_that_are(ask, out):
    with pytest.raises(InputError, match="holds no run 'n9', there are: main, n1, n2"):
        getattr(api.open_dataset(out), ask)(run="n9")


def test_a_key_says_itself_of_which_run_it_is(out):
    dataset = api.open_dataset(out)
    keys = dataset.to_table(["key"])["key"].to_pylist()
    night = next(key for key in keys if key.startswith("n1-"))

    assert dataset.replay([night]).exit_code == 0
    assert dataset.replay([keys[0]]).exit_code == 0
    assert dataset.replay([int(night.split("-")[1].split("_")[0])], run="n1").exit_code == 0
    with pytest.raises(InputError, match="keys of 2 runs"):
        dataset.replay([keys[0], night])


def test_collecting_takes_what_no_record_of_any_finished_run_names(out):
    store = open_store(out)
    orphans = [layout.data_key("data", 0, 2, "0a0b0c0d", run) for run in ("main", "n1", "n2")]
    unfinished = layout.data_key("data", 0, 2, "0a0b0c0d", "n3")
    for key in (*orphans, unfinished):
        store.put(key, b"of an attempt")

    assert api.open_dataset(out).collect_orphans(dry_run=True) == orphans
    assert api.open_dataset(out).collect_orphans(run="n1") == [orphans[1]]
    assert api.open_dataset(out).collect_orphans() == [orphans[0], orphans[2]]
    assert store.head(unfinished)
    store.delete(unfinished)


def test_a_run_is_stopped_by_its_name_and_all_are_asked_without_one(out):
    assert api.stop(out).asked is False
    assert api.stop(out, run="n1").asked is False
    with pytest.raises(InputError, match="n9"):
        api.stop(out, run="n9")


def test_the_command_line_asks_all_runs_and_names_one(out):
    def said(*words):
        command = [sys.executable, "-m", "sdbatch.cli.main", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    code, text = said("status", str(out), "--exit-code")
    assert code == 4
    assert "90 of 90 images" in text
    code, text = said("verify", str(out), "--run", "n1")
    assert (code, "2 of 2 shards" in text) == (0, True)
    code, text = said("errors", str(out), "--run", "n2")
    assert (code, "--run n2" in text) == (0, True)

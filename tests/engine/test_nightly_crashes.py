"""Appended runs that die at every write to storage, or run beside each other into one output."""

from __future__ import annotations

import shutil
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sdbatch import api
from sdbatch.storage.store import open_store
from tests.engine.runs import INLINE
from tests.engine.test_real_crashes import Plug, ended

SMALL = {"model": "fake", "shard_size": 3, **INLINE}


def prompts(tmp_path, name, *numbers):
    path = tmp_path / name
    pq.write_table(pa.table({"prompt": [f"picture {i}" for i in numbers]}), path)
    return str(path)


def stored(out, run):
    folder = out / "data" / f"run={run}"
    table = pq.read_table(sorted(map(str, folder.glob("*.parquet"))))
    return dict(zip(table["prompt"].to_pylist(), table["pixel_sha256"].to_pylist(), strict=True))


def card_of(out):
    front = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    return {one["config_name"]: one["data_files"][0]["path"] for one in front["configs"]}


def test_a_night_that_dies_at_any_write_is_finished_by_the_same_command(tmp_path, monkeypatch):
    plug = Plug(monkeypatch)
    plug.pull_at(None)
    begun, whole = tmp_path / "begun", tmp_path / "whole"
    api.render(prompts(tmp_path, "a", 0, 1, 2), begun, **SMALL)
    path = prompts(tmp_path, "b", 0, 1, 2, 3, 4, 5, 6)
    shutil.copytree(begun, whole)
    how = {"append": "n1", "only_new": True, **SMALL}
    api.render(path, whole, **how)
    expected, data = stored(whole, "n1"), sorted(begun.glob("data/*.parquet"))
    before = [file.read_bytes() for file in data]

    write, over = 0, False
    while not over:
        write += 1
        out = tmp_path / f"out-{write}"
        shutil.copytree(begun, out)
        over = ended(plug, write, lambda out=out: api.render(path, out, **how))
        summary = api.render(path, out, **how)

        assert (summary.exit_code, summary.success) == (0, 4)
        assert stored(out, "n1") == expected
        assert [file.read_bytes() for file in sorted(out.glob("data/*.parquet"))] == before
        report = api.open_dataset(out).verify(3)
        assert (report.problems, report.unfinished, report.orphans) == ([], "", ())
        assert card_of(out)["default"] == ["data/*.parquet", "data/run=n1/*.parquet"]
        shutil.rmtree(out)
    assert write > 12


def test_two_nights_at_once_into_one_output_do_not_harm_each_other(tmp_path):
    out, found = tmp_path / "out", {}
    api.render(prompts(tmp_path, "a", *range(6)), out, **SMALL)

    def draw(run, first):
        path = prompts(tmp_path, run, *range(first, first + 30))
        found[run] = api.render(path, out, append=run, **{**SMALL, "model": "fake:ms=5"})

    threads = [threading.Thread(target=draw, args=(f"n{k}", 100 * (k + 1))) for k in range(3)]
    for thread in threads:
        thread.start()
    # A retry, gc and stop of the run that stands take nothing of those under way.
    api.open_dataset(out).collect_orphans(run="main")
    for thread in threads:
        thread.join()

    assert {run: (one.exit_code, one.success) for run, one in found.items()} == dict.fromkeys(
        ("n0", "n1", "n2"), (0, 30)
    )
    report = api.open_dataset(out).verify(3)
    assert (report.problems, report.unfinished, report.orphans) == ([], "", ())
    assert api.open_dataset(out).status().success == 96
    folders = ["data/*.parquet", *(f"data/run=n{k}/*.parquet" for k in range(3))]
    assert card_of(out)["default"] == folders


def test_a_card_that_a_driver_wrote_too_early_is_written_anew(tmp_path):
    out = tmp_path / "out"
    api.render(prompts(tmp_path, "a", 1), out, **SMALL)
    early = (out / "README.md").read_bytes()
    path = prompts(tmp_path, "b", 2)
    api.render(path, out, append="n1", **SMALL)
    (out / "README.md").write_bytes(early)  # by a driver that died before it looked once more

    api.render(path, out, append="n1", **SMALL)
    assert card_of(out)["default"] == ["data/*.parquet", "data/run=n1/*.parquet"]


def test_names_are_listed_where_a_folder_holds_more_than_its_run(tmp_path):
    out = tmp_path / "out"
    api.render(prompts(tmp_path, "a", 1), out, **SMALL)
    open_store(out).put("data/train-00000-of-00001-0a0b0c0d.parquet", b"of a lost attempt")
    api.render(prompts(tmp_path, "b", 2), out, append="n1", **SMALL)

    names = card_of(out)["default"]
    assert names[1] == "data/run=n1/*.parquet"
    assert names[0].startswith("data/train-00000-of-00001-")
    assert "0a0b0c0d" not in names[0]

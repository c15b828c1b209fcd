"""Nights appended to a dataset: their own runs, main's columns, one dataset for readers."""

import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import InputError, JobError, ManifestError, PlanChangedError
from sdbatch.storage import layout
from sdbatch.storage.store import open_store
from tests.engine.runs import INLINE, run_until

FAKE = {"model": "fake", "shard_size": 5, **INLINE}
SLOW = {**FAKE, "model": "fake:ms=20"}


@pytest.fixture
def out(manifest, tmp_path):
    """A finished dataset of twelve rows with two columns of the manifest's own."""
    out = tmp_path / "out"
    path = manifest(12, label=[f"l{i}" for i in range(12)], score=[float(i) for i in range(12)])
    api.render(path, out, **FAKE)
    return out


def night(manifest, rows=7, name="night.parquet", **columns):
    return manifest(rows, name=name, **columns)


def rows_of(out, run):
    folder = out / "metadata" / (f"run={run}" if run != "main" else "")
    return pq.read_table([str(path) for path in sorted(folder.glob("*.parquet"))]).to_pylist()


def test_a_night_adds_files_and_leaves_every_older_object_alone(manifest, out, tmp_path):
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    summary = api.render(
        night(manifest, label=["n"] * 7, score=[1.0] * 7), out, append="20261122", **FAKE
    )

    assert (summary.exit_code, summary.success) == (0, 7)
    written = {path for path in before if path.read_bytes() != before[path]}
    assert {path.name for path in written} <= {"README.md", "preview.jpg"}
    rows = rows_of(out, "20261122")
    assert [row["key"] for row in rows] == [f"20261122-{i:09d}_000" for i in range(7)]
    assert {row["run_id"] for row in rows} == {"20261122"}
    assert {row["label"] for row in rows} == {"n"}
    state = out / "__sdbatch" / "20261122"
    assert {"job.json", "commits", "success", "lease", "logs", "progress.json"} <= {
        path.name for path in state.iterdir()
    }
    assert not list((out / "__sdbatch" / "main" / "tokens").glob("*"))


def test_columns_that_a_night_lacks_are_null(manifest, out):
    api.render(night(manifest, score=[2.5] * 7), out, append="n2", **FAKE)

    rows = rows_of(out, "n2")
    assert {(row["label"], row["score"]) for row in rows} == {(None, 2.5)}
    assert pq.read_schema(next((out / "data").glob("*.parquet"))).equals(
        pq.read_schema(next((out / "data" / "run=n2").glob("*.parquet")))
    )


def test_an_empty_column_fits_whatever_the_dataset_has(manifest, out):
    api.render(night(manifest, score=pa.nulls(7)), out, append="n2", **FAKE)

    assert {row["score"] for row in rows_of(out, "n2")} == {None}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"mood": ["x"] * 7}, "column 'mood'.*it has label, score"),
        ({"score": ["high"] * 7}, "column 'score': string: the dataset has it as double"),
        ({"label": [1] * 7}, "column 'label': int64: the dataset has it as string"),
    ],
)
@pytest.mark.parametrize("door", ["render", "plan"])
def test_a_column_that_the_dataset_lacks_or_has_otherwise_is_refused(
    door, columns, said, manifest, out
):
    before = sorted(path for path in out.rglob("*"))
    with pytest.raises(ManifestError, match=said):
        getattr(api, door)(night(manifest, **columns), out, append="n2", **FAKE)

    assert sorted(path for path in out.rglob("*")) == before


def test_nothing_is_appended_to_an_empty_output(manifest, tmp_path):
    with pytest.raises(InputError, match="leave out --append"):
        api.render(manifest(3), tmp_path / "none", append="n1", **FAKE)
    assert not (tmp_path / "none").exists()


def test_nothing_is_appended_before_the_first_run_is_finished(manifest, tmp_path, monkeypatch):
    path, out = manifest(40), tmp_path / "out"
    run_until(10, monkeypatch, path, out, **SLOW)

    with pytest.raises(InputError, match="'main' is not finished"):
        api.render(night(manifest), out, append="n1", **FAKE)
    api.render(path, out, **FAKE)
    assert api.render(night(manifest), out, append="n1", **FAKE).exit_code == 0


@pytest.mark.parametrize("name", ["main", "a/b", "..", "night-test", "x" * 65])
def test_a_bad_name_is_refused(name, manifest, out):
    with pytest.raises(InputError):
        api.plan(night(manifest), out, append=name, **FAKE)


def test_files_where_the_night_would_lie_are_left_alone(manifest, out):
    foreign = out / "data" / "run=n1" / "x.parquet"
    foreign.parent.mkdir()
    foreign.write_bytes(b"mine")

    with pytest.raises(InputError, match="data/run=n1 that no run"):
        api.render(night(manifest), out, append="n1", **FAKE)
    assert foreign.read_bytes() == b"mine"


def test_a_night_goes_on_where_it_was_stopped(manifest, out, monkeypatch):
    path = night(manifest, rows=60)
    stopped = run_until(10, monkeypatch, path, out, append="n1", **SLOW)
    again = api.render(path, out, append="n1", **FAKE)

    assert stopped.exit_code == 75
    assert again.exit_code == 0
    keys = [row["key"] for row in rows_of(out, "n1")]
    assert sorted(keys) == [f"n1-{i:09d}_000" for i in range(60)]


def test_a_finished_night_has_nothing_to_do_and_another_manifest_is_refused(manifest, out, report):
    path = night(manifest)
    api.render(path, out, append="n1", **FAKE)
    again = api.render(path, out, append="n1", report=report, **FAKE)

    assert again.exit_code == 0
    assert "nothing to do" in report.text
    with pytest.raises(PlanChangedError):
        api.render(night(manifest, rows=9, name="other.parquet"), out, append="n1", **FAKE)


def test_the_plan_of_a_night_is_another_than_that_of_any_other_run(manifest, out):
    plans = {api.plan(night(manifest), out, append=n, dtype="float32", batch_size=2, **FAKE).plan_id
             for n in ("n1", "n2")}  # fmt: skip

    assert len(plans) == 2


def test_columns_are_read_as_the_first_night_read_them(tmp_path):
    table = pa.table({"Text": ["a", "b"], "mood": ["x", "y"]})
    for name in ("one", "two"):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    out = tmp_path / "out"
    api.render(str(tmp_path / "one.parquet"), out, passthrough_prefix="in_", **FAKE)
    api.render(str(tmp_path / "two.parquet"), out, append="n1", **FAKE)

    assert [row["in_mood"] for row in rows_of(out, "n1")] == ["x", "y"]
    with pytest.raises(JobError, match="holds for every run"):
        api.plan(str(tmp_path / "two.parquet"), out, append="n2", passthrough_prefix="u_", **FAKE)


def test_a_night_may_bring_a_model_and_settings_of_its_own(manifest, out):
    options = FAKE | {"model": "fake:lanes=3", "num_inference_steps": 3}
    api.render(night(manifest), out, append="n1", **options)

    job = json.loads((out / "__sdbatch" / "n1" / "job.json").read_text())
    assert (job["run"], job["resolved"]["run"]) == ("n1", "n1")
    assert {row["num_inference_steps"] for row in rows_of(out, "n1")} == {3}


def test_collecting_one_run_takes_nothing_of_another(manifest, out):
    api.render(night(manifest), out, append="n1", **FAKE)
    store = open_store(out)
    theirs = [
        layout.data_key("data", 0, 9, "0a0b0c0d", "n2"),
        layout.part_key("n2", 0, "0a0b0c0d", 0, "json"),
        layout.token_key("their-driver", "n2"),
    ]
    ours = layout.data_key("data", 0, 2, "0a0b0c0d", "n1")
    for key in (*theirs, ours):
        store.put(key, b"of an attempt")

    from sdbatch.audit.gc import collect_orphans

    assert collect_orphans(store, "main") == []
    assert collect_orphans(store, "n1") == [ours]
    assert all(store.head(key) for key in theirs)


@pytest.mark.parametrize("layout_name", ["webdataset", "files"])
def test_a_night_has_the_layout_that_the_dataset_was_begun_with(layout_name, manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(6), out, format=layout_name, **FAKE)
    api.render(night(manifest), out, append="n1", **FAKE)

    assert api.open_dataset(out).verify(3).exit_code == 0
    assert len(api.open_dataset(out).to_table(["key"])) == 13
    with pytest.raises(JobError, match="holds for every run"):
        api.plan(night(manifest), out, append="n2", format="parquet", **FAKE)


def test_samples_of_all_nights_have_the_same_members(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(6), out, format="webdataset", image_format="jpeg", **FAKE)
    api.render(night(manifest), out, append="n1", **FAKE)

    names = []
    for path in out.rglob("data/**/*.tar"):
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert {name.rpartition(".")[2] for name in names} == {"jpeg", "json"}
    assert len(names) == 2 * 13
    with pytest.raises(JobError, match=r"image\.format.*holds for every run"):
        api.plan(night(manifest), out, append="n2", image_format="png", **FAKE)


def test_a_name_with_a_dot_is_no_key_of_a_tar(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(6), out, format="webdataset", **FAKE)

    with pytest.raises(JobError, match=r"such as 2026-11-22"):
        api.plan(night(manifest), out, append="2026.11.22", **FAKE)


def test_a_class_that_the_dataset_does_not_know_is_refused(manifest, tmp_path):
    out = tmp_path / "out"
    labelled = {"class_label": "animal", **FAKE}
    api.render(manifest(4, animal=["cat", "dog", "cat", "dog"]), out, **labelled)
    api.render(night(manifest, 2, animal=["dog", "dog"]), out, append="n1", **labelled)

    assert [row["animal"] for row in rows_of(out, "n1")] == [1, 1]
    with pytest.raises(ManifestError, match="fox: no class of the dataset, which has cat, dog"):
        api.plan(night(manifest, 2, animal=["fox", "dog"]), out, append="n2", **labelled)

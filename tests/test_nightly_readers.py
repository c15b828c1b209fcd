"""A dataset of several nights opens in the libraries people use, equal to its own ledgers."""

import glob

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from sdbatch import api

pytestmark = pytest.mark.readers
FAKE = {"engine": "inline", "size": "64x64", "model": "fake:fail=0.2", "shard_size": 10}
NIGHTS = ("main", "20261122", "20261123")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three nights, of which the last lacks a column and some rows failed."""
    folder = tmp_path_factory.mktemp("nights")
    for number, run in enumerate(NIGHTS):
        table = pa.table({"prompt": [f"{run} {i}" for i in range(25)]})
        if number < 2:
            table = table.append_column("mood", pa.array([f"m{i}" for i in range(25)]))
        pq.write_table(table, folder / f"{run}.parquet")
        named = {"append": run} if number else {}
        api.render(str(folder / f"{run}.parquet"), folder / "out", **named, **FAKE)
    return folder / "out"


@pytest.fixture(scope="module")
def expected(root):
    """What the records of all runs name, in their order."""
    columns = ["key", "run_id", "prompt", "mood", "pixel_sha256"]
    return api.open_dataset(root).to_table(columns).to_pylist()


@pytest.fixture
def load(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()

    def load_dataset(path, *args, **options):
        return datasets.load_dataset(str(path), *args, cache_dir=str(tmp_path), **options)

    return load_dataset


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_shows_every_night_in_order(root, expected, load, streaming):
    found = load(root, split="train", streaming=streaming)

    rows = list(found)
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    assert {row["image"].size for row in rows} == {(64, 64)}
    assert {row["run_id"] for row in rows} == set(NIGHTS)


@pytest.mark.parametrize("kind", ["metadata", "errors"])
def test_the_other_configurations_hold_every_night_too(root, load, kind):
    found = load(root, kind, split="train")
    status = api.open_dataset(root).status()

    assert len(found) == (status.success if kind == "metadata" else status.failed) > 0
    assert set(found["run_id"]) == set(NIGHTS)


def test_pyarrow_reads_all_nights(root, expected):
    found = pads.dataset(str(root / "data")).to_table(columns=list(expected[0])).to_pylist()

    assert sorted(found, key=lambda row: row["key"]) == sorted(expected, key=lambda r: r["key"])


def test_pandas_reads_all_nights(root, expected):
    import pandas as pd

    found = pd.read_parquet(str(root / "metadata"))

    assert sorted(found["key"]) == sorted(row["key"] for row in expected)
    assert set(found["run_id"]) == set(NIGHTS)


def test_duckdb_reads_all_nights_and_one(root, expected):
    import duckdb

    names = ", ".join(expected[0])
    rows = duckdb.sql(f"select {names} from '{root}/data/**/*.parquet'").fetchall()
    nights = duckdb.sql(
        f"select run_id, count(*) from '{root}/data/**/*.parquet' group by run_id"
    ).fetchall()

    assert sorted(rows) == sorted(tuple(row.values()) for row in expected)
    assert dict(nights) == {run: api.open_dataset(root).status(run=run).success for run in NIGHTS}


def test_a_path_pattern_reads_all_nights_without_the_card(root, expected, load):
    files = sorted(glob.glob(str(root / "data" / "**" / "train-*.parquet"), recursive=True))
    found = load("parquet", data_files=files, split="train")

    assert sorted(found["key"]) == sorted(row["key"] for row in expected)


def test_the_card_counts_all_nights_and_names_each(root, expected):
    card = (root / "README.md").read_text()
    status = api.open_dataset(root).status()

    assert f"{status.success:,} pictures drawn" in card
    assert all(f"| {run} |" in card for run in NIGHTS)
    assert "'data/**/*.parquet'" in card

"""A dataset that a run has made opens in other people's readers with no code."""

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest

from sdbatch import api

pytestmark = pytest.mark.readers


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """200 rows, some failed, in several shards, with a column that is null in the first one."""
    folder = tmp_path_factory.mktemp("run")
    rows = [
        {"prompt": f"p{i}", "note": None if i < 60 else f"n{i}", "score": i / 7} for i in range(200)
    ]
    api.render(rows, folder / "out", model="fake:fail=0.05", engine="inline", size="64x64",
               shard_size=50)  # fmt: skip
    return folder / "out"


@pytest.fixture(scope="module")
def status(out):
    return api.open_dataset(out).status()


def test_datasets_loads_pictures_in_manifest_order(out, status, tmp_path):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path))

    assert len(loaded) == status.success
    assert isinstance(loaded.features["image"], datasets.Image)
    assert loaded["row_index"] == sorted(loaded["row_index"])
    assert np.asarray(loaded[0]["image"]).shape == (64, 64, 3)
    assert loaded[len(loaded) - 1]["note"].startswith("n")


def test_datasets_streams_and_finds_the_errors_under_their_own_name(out, status, tmp_path):
    datasets = pytest.importorskip("datasets")
    stream = datasets.load_dataset(str(out), split="train", streaming=True)
    errors = datasets.load_dataset(str(out), "errors", split="train", cache_dir=str(tmp_path))

    assert sum(1 for _ in stream) == status.success
    assert len(errors) == status.failed > 0


def test_duckdb_pandas_and_arrow_agree_on_every_row(out, status):
    by_duckdb = duckdb.sql(f"select key, octet_length(image.bytes) n from '{out}/data/*.parquet'")
    by_pandas = pd.read_parquet(out / "metadata")
    by_arrow = ds.dataset(out / "metadata").to_table()

    sizes = dict(by_duckdb.fetchall())
    assert len(sizes) == len(by_pandas) == by_arrow.num_rows == status.success
    assert sizes == dict(zip(by_pandas["key"], by_pandas["image_bytes"], strict=True))


def test_a_glob_over_data_is_exact_after_the_run(out, status):
    files = {path.name for path in (out / "data").iterdir()}

    assert files == {name.rsplit("/", 1)[-1] for name in api.open_dataset(out).files()}
    assert len(files) == status.shards

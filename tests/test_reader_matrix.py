"""Every layout, however its run went, in every reader people use: each row equal to the ledger.

The ledger is what the standing records name, read by nobody's reader but our own; its
pictures are checked against what the fake model must draw for their rows.
"""

import hashlib
import io
import os
import re
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import webdataset
from PIL import Image

from sdbatch import api
from sdbatch.audit.pictures import committed_rows
from sdbatch.render.fake import FakeRenderer, fake_pixels
from sdbatch.results import RowFailure
from sdbatch.storage.runs import all_runs
from sdbatch.storage.store import open_store
from tests.engine.layouts import LAYOUTS
from tests.engine.runs import asked_for, run_until

pytestmark = [pytest.mark.readers, pytest.mark.timeout(300)]

STATES = ("finished", "interrupted", "retried", "appended")
ROWS = 18
PROMPTS = [f'<i>row</i> {i}, "q"\n\u05de\u05d9\u05df \U0001f98a' for i in range(ROWS)]
COLUMNS = ("key", "sha256", "prompt")


def manifest():
    """In the first shard all own columns are null; later ones hold values, some nested."""
    late = [i >= ROWS // 2 for i in range(ROWS)]
    kind = pa.struct([("x", pa.int64()), ("names", pa.list_(pa.string()))])
    nested = [{"x": i, "names": [str(i)]} if there else None for i, there in enumerate(late)]
    notes = [f"n{i}" if there else None for i, there in enumerate(late)]
    return pa.table(
        {
            "prompt": PROMPTS,
            "note": pa.array(notes, pa.string()),
            "nothing": pa.nulls(ROWS),
            "nested": pa.array(nested, kind),
            "breed": [["cat", "dog"][i % 2] for i in range(ROWS)],
        }
    )


def fail(patch, rows):
    """From now on these rows fail."""
    real = FakeRenderer._draw

    def draw(self, row, lanes):
        failure = RowFailure(row, "TestError", "said by a test")
        return failure if row.row_index in rows else real(self, row, lanes)

    patch.setattr(FakeRenderer, "_draw", draw)


def make(out, layout, state, patch):
    captions = {"captions": "txt"} if layout != "parquet" else {}
    options = {
        **captions,
        "format": layout,
        "model": "fake:lanes=2",
        "shard_size": 7,
        "size": "64x64",
        "engine": "inline",
        "class_label": "breed",
        "allow_failed": "100%",
    }
    with patch.context() as patched:
        fail(patched, {4, 11} if state != "finished" else {4})
        if state == "interrupted":
            run_until(8, patched, manifest(), out, **options)
        api.render(manifest(), out, **options)
    if state == "retried":
        api.retry(out, engine="inline")
    if state == "appended":
        del options["class_label"], options["format"], options["shard_size"]
        options.pop("captions", None)
        api.render(manifest().slice(5, 6), out, append="20261122", shard_size=4, **options)


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(scope="module", params=STATES)
def out(request, layout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix") / f"{layout}_{request.param}"
    with pytest.MonkeyPatch.context() as patch:
        make(folder, layout, request.param, patch)
    return folder


@pytest.fixture(scope="module")
def ledger(out):
    """(key, sha256, prompt) of every picture, in the order of runs and rows."""
    store = open_store(out)
    found = [
        row
        for run in all_runs(store)
        for batch in committed_rows(store, run, pictures=True)
        for row in batch.to_pylist()
    ]
    for row in found:
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        assert np.array_equal(pixels, fake_pixels(asked_for(row)))
        assert row["breed"] == row["row_index"] % 2 if row["run_id"] == "main" else True
    assert all("image" in row for row in found)
    return [tuple(row[name] for name in COLUMNS) for row in found]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    import datasets

    cache = str(tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)

        def load_dataset(out, *args, **options):
            cached = {} if options.get("streaming") else {"cache_dir": cache}
            return datasets.load_dataset(str(out), *args, split="train", **cached, **options)

        yield load_dataset


def sha256(image):
    return hashlib.sha256(image["bytes"] or open(image["path"], "rb").read()).hexdigest()


def undecoded(dataset, layout):
    import datasets

    return dataset.cast_column("png" if layout == "webdataset" else "image",
                               datasets.Image(decode=False))  # fmt: skip


def triple(row, layout):
    """(key, sha256 of the bytes, prompt) of a row as `datasets` gives it."""
    columns = row["json"] if layout == "webdataset" else row
    if layout == "webdataset":
        assert row["txt"] == columns["prompt"]
    return (
        columns["key"],
        sha256(row["png" if layout == "webdataset" else "image"]),
        columns["prompt"],
    )


def test_datasets_loads_every_row(out, ledger, layout, load):
    import datasets

    loaded = load(out)
    image = "png" if layout == "webdataset" else "image"
    features = loaded.features["json"] if layout == "webdataset" else loaded.features

    assert isinstance(loaded.features[image], datasets.Image)
    assert features["breed"].names == ["cat", "dog"]
    assert loaded[0][image].size == (64, 64)
    assert [triple(row, layout) for row in undecoded(loaded, layout)] == ledger


def test_datasets_streams_every_row_shuffled_too(out, ledger, layout, load):
    stream = undecoded(load(out, streaming=True), layout)

    assert sorted(triple(row, layout) for row in stream) == sorted(ledger)
    shuffled = stream.shuffle(seed=0, buffer_size=8)
    assert sorted(triple(row, layout) for row in shuffled) == sorted(ledger)


def test_datasets_reads_some_columns_alone(out, ledger, layout, load):
    if layout == "parquet":
        some = load(out, columns=["key", "prompt"])
        assert some.column_names == ["key", "prompt"]
        rows = list(zip(some["key"], some["prompt"], strict=True))
    else:  # no other loader of `datasets` has such an argument
        some = load(out).select_columns(["json"] if layout == "webdataset" else ["key", "prompt"])
        found = some["json"] if layout == "webdataset" else some
        rows = [(row["key"], row["prompt"]) for row in found]
    assert rows == [(key, prompt) for key, _, prompt in ledger]


def test_webdataset_reads_every_sample(out, ledger, layout):
    if layout != "webdataset":
        assert not list(out.rglob("*.tar"))
        return
    tars = sorted(str(path) for path in (out / "data").rglob("*.tar"))
    samples = webdataset.WebDataset(tars, shardshuffle=False)
    raw = [(s["__key__"], hashlib.sha256(s["png"]).hexdigest(), s["txt"].decode()) for s in samples]
    decoded = webdataset.WebDataset(tars, shardshuffle=False).decode("pil")

    assert sorted(raw) == sorted(ledger)
    for sample in decoded:
        assert sample["png"].size == (64, 64)
        assert sample["json"]["key"] == sample["__key__"]
        assert sample["json"]["prompt"] == sample["txt"]


def test_arrow_duckdb_pandas_and_polars_read_the_same_metadata(out, ledger):
    names, pattern = list(COLUMNS), f"{out}/metadata/**/*.parquet"
    arrow = ds.dataset(out / "metadata").to_table(names)
    by_duckdb = duckdb.sql(f"select key, sha256, prompt from read_parquet('{pattern}')").fetchall()
    by_pandas = pd.read_parquet(out / "metadata")[names]
    by_polars = polars.read_parquet(pattern, hive_partitioning=False).select(names)

    expected = sorted(ledger)
    assert sorted(tuple(row.values()) for row in arrow.to_pylist()) == expected
    assert sorted(by_duckdb) == expected
    assert sorted(by_pandas.itertuples(index=False, name=None)) == expected
    assert sorted(by_polars.rows()) == expected


def test_pictures_of_parquet_are_read_without_datasets(out, ledger, layout):
    if layout != "parquet":
        assert not list((out / "data").rglob("*.parquet")) if (out / "data").exists() else True
        return
    pattern = f"{out}/data/**/*.parquet"
    query = f"select key, sha256(image.bytes), prompt from read_parquet('{pattern}')"
    frame = polars.read_parquet(pattern, hive_partitioning=False).select("key", "image", "prompt")
    by_pandas = pd.read_parquet(out / "data", columns=["key", "image", "prompt"])
    expected = sorted(ledger)

    assert sorted(duckdb.sql(query).fetchall()) == expected
    for rows in (frame.rows(), by_pandas[["key", "image", "prompt"]].itertuples(index=False)):
        found = [(k, hashlib.sha256(image["bytes"]).hexdigest(), p) for k, image, p in rows]
        assert sorted(found) == expected


def test_pictures_of_a_folder_are_read_by_its_table(out, ledger, layout):
    if layout != "files":
        assert not (out / "metadata.parquet").exists()
        return
    table = pd.read_parquet(out / "metadata.parquet")
    found = [
        (row.key, hashlib.sha256((out / row.file_name).read_bytes()).hexdigest(), row.prompt)
        for row in table.itertuples()
    ]
    texts = [(out / name).with_suffix(".txt").read_text() for name in table["file_name"]]

    assert found == ledger
    assert texts == [prompt for _, _, prompt in ledger]


def test_own_columns_keep_their_type_in_every_file(out):
    files = list((out / "metadata").rglob("*.parquet"))
    schemas = {ds.dataset(path).schema.remove_metadata().to_string() for path in files}

    assert len(files) > 2
    assert len(schemas) == 1
    schema = ds.dataset(files[0]).schema
    assert schema.field("nothing").type == pa.string()
    assert schema.field("nested").type == manifest().schema.field("nested").type


def test_every_snippet_of_the_card_runs_as_it_stands(out, ledger, layout, tmp_path):
    if not out.name.endswith(("_finished", "_appended")):
        return  # the card is the same
    card = (out / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    env = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    script = "\n".join(snippets)
    ran = subprocess.run([sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", script],
                         cwd=out, env=env, capture_output=True, text=True, check=False)  # fmt: skip

    assert ran.returncode == 0, ran.stderr[-2000:]
    assert len(snippets) >= 4
    for key, _, prompt in ledger:
        assert key in ran.stdout
        assert prompt in ran.stdout
    assert re.search(rf"^{len(ledger)} \[", ran.stdout, re.MULTILINE)


def test_the_flags_for_the_training_script_name_columns_that_are_there(out, layout, load):
    card = (out / "README.md").read_text()
    flags = dict(re.findall(r'--(\w+)="([^"]*)"', card.split("```bash")[1].split("```")[0]))
    loaded = load(out)

    assert flags["dataset_name"] == "$PWD"
    assert loaded[0][flags["image_column"]].size == (64, 64)
    assert isinstance(loaded[0][flags["caption_column"]], str)

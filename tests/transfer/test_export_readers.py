"""Exports open in the libraries people use, with no code of ours; every row is the ledger's."""

import io
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.transfer import choice
from sdbatch.transfer import export as export_module
from sdbatch.transfer.doors import export
from tests.transfer.exports import FORMATS, INLINE, ledger, read, render, rows

pytestmark = pytest.mark.readers

TERMS = {
    "parquet": {},
    "webdataset": {},
    "files": {"captions": "txt", "name": "{label} {seed}"},
    "imagefolder": {"folder_by": "label", "captions": "txt"},
}
ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two runs; of the first some pictures failed."""
    out = tmp_path_factory.mktemp("dataset") / "out"
    render(out, count=24)
    api.render(rows(8, first=100), out, append="n2", model="fake", **INLINE)
    return out


@pytest.fixture(params=["whole", "grown"], scope="module")
def way(request):
    return request.param


@pytest.fixture(params=FORMATS, scope="module")
def exported(request, way, out, tmp_path_factory):
    """An export in two splits, written at once or as the dataset grew, in small files."""
    dest = tmp_path_factory.mktemp("exported") / "d"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "MB", 7000)
        patch.setattr(choice, "PART_PICTURES", 7)
        source = out
        if way == "grown":
            source = tmp_path_factory.mktemp("grown") / "out"
            render(source, count=24)
        terms = {"format": request.param, "split": "train=0.7,val=0.3", **TERMS[request.param]}
        export(source, dest, shard_mb=1, **terms)
        if way == "grown":
            api.render(rows(8, first=100), source, append="n2", model="fake", **INLINE)
            export(source, dest, shard_mb=1)
    due = ledger(source)
    assert read(dest) == due
    return request.param, dest, due


@pytest.fixture
def load(monkeypatch, tmp_path):
    """`datasets.load_dataset` with a cache of its own, offline."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()

    def load_dataset(path, *args, **options):
        return datasets.load_dataset(str(path), *args, cache_dir=str(tmp_path), **options)

    return load_dataset


def picture_and_row(kind, row):
    """What `datasets` gives, as (picture, columns)."""
    if kind == "webdataset":
        return row["png"], row["json"]
    return row["image"], row


@pytest.mark.parametrize("streaming", [False, True], ids=["normal", "streaming"])
def test_datasets_gives_every_row_in_its_split(streaming, exported, load):
    kind, dest, due = exported
    found = {}
    for split in ("train", "val"):
        for row in load(dest, split=split, streaming=streaming):
            picture, columns = picture_and_row(kind, row)
            assert columns["key"] not in found
            found[columns["key"]] = columns
            assert picture.size == (64, 64)
            if kind != "webdataset":
                assert columns["prompt"] == due[columns["key"]]["prompt"]

    assert set(found) == set(due)
    assert {row["seed"] for row in found.values()} == {row["seed"] for row in due.values()}


def test_datasets_finds_the_splits_alone(exported, load):
    _, dest, due = exported
    found = load(dest)

    assert set(found) == {"train", "val"}
    assert sum(len(split) for split in found.values()) == len(due)


@pytest.mark.parametrize("exported", ["webdataset"], indirect=True)
def test_webdataset_gives_every_sample(exported):
    _, dest, due = exported
    import webdataset

    urls = sorted(str(path) for path in (dest / "data").glob("*.tar"))
    samples = webdataset.WebDataset(urls, shardshuffle=False).decode("pil")
    found = {sample["json"]["key"]: sample for sample in samples}

    assert set(found) == set(due)
    assert all(sample["png"].size == (64, 64) for sample in found.values())


@pytest.mark.parametrize("exported", ["parquet"], indirect=True)
def test_parquet_opens_in_every_library(exported):
    _, dest, due = exported
    import duckdb
    import pandas
    import polars

    pattern = f"{dest}/data/*.parquet"
    assert duckdb.sql(f"select count(*), count(distinct key) from '{pattern}'").fetchall() == [
        (len(due), len(due))
    ]
    assert set(pandas.read_parquet(dest / "data").key) == set(due)
    assert set(polars.read_parquet(pattern)["key"]) == set(due)
    assert set(pq.read_table(dest / "metadata")["key"].to_pylist()) == set(due)


def image_folder(root):
    """What torchvision's ImageFolder finds: folders are classes, files below them samples.

    By its documentation: `classes` are the sorted names of all folders of the root, samples all
    files below with one of its endings, and a class without any is an error.
    """
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    samples = [
        (os.path.join(at, name), number)
        for number, label in enumerate(classes)
        for at, _, names in sorted(os.walk(os.path.join(root, label), followlinks=True))
        for name in sorted(names)
        if name.lower().endswith(ENDINGS)
    ]
    assert {number for _, number in samples} == set(range(len(classes)))
    return classes, samples


@pytest.mark.parametrize("exported", ["imagefolder"], indirect=True)
def test_folders_are_the_classes_of_torchvision(exported):
    _, dest, due = exported
    labels = {"a dog/é": "a dog_é", None: "none", "CON": "CON_"}
    found = {}
    for split in ("train", "val"):
        classes, samples = image_folder(dest / split)
        for path, number in samples:
            Image.open(path).load()
            found[os.path.basename(path).removesuffix(".png")] = classes[number]

    assert found == {key: labels.get(row["label"], row["label"]) for key, row in due.items()}


@pytest.mark.parametrize("exported", ["files", "imagefolder"], indirect=True)
def test_captions_stand_beside_their_pictures(exported):
    _, dest, due = exported
    pictures, texts = sorted(dest.rglob("*.png")), sorted(dest.rglob("*.txt"))

    assert [path.with_suffix("") for path in pictures] == [path.with_suffix("") for path in texts]
    assert sorted(path.read_text() for path in texts) == sorted(
        row["prompt"] for row in due.values()
    )


def test_nested_and_null_columns_keep_their_type_in_every_file(tmp_path, monkeypatch, load):
    monkeypatch.setattr(export_module, "MB", 3000)
    table = pa.table(
        {
            "prompt": [f"p{i}" for i in range(8)],
            "late": [None] * 6 + ["x", "y"],
            "nested": pa.array(
                [None] * 4 + [[{"x": i}] for i in range(4)],
                pa.list_(pa.struct([("x", pa.int64())])),
            ),
        }
    )
    api.render(table, tmp_path / "out", model="fake", shard_size=4, **INLINE)
    export(tmp_path / "out", tmp_path / "d", shard_mb=1)
    schemas = {
        pq.read_schema(path).remove_metadata() for path in (tmp_path / "d/data").glob("*.parquet")
    }
    found = load(tmp_path / "d", split="train")

    assert len(schemas) == 1
    assert found["late"][:] == table["late"].to_pylist()
    assert found["nested"][:] == table["nested"].to_pylist()


def test_a_class_column_keeps_its_classes(tmp_path, load):
    out = tmp_path / "out"
    labelled = [{"prompt": f"p{i}", "kind": "ab"[i % 2]} for i in range(4)]
    api.render(labelled, out, model="fake", class_label="kind", **INLINE)
    export(out, tmp_path / "d", format="imagefolder", folder_by="kind")
    export(out, tmp_path / "p")

    assert image_folder(tmp_path / "d" / "train")[0] == ["a", "b"]
    assert load(tmp_path / "p", split="train").features["kind"].names == ["a", "b"]


@pytest.mark.parametrize("layout", ["webdataset", "files"])
def test_a_dataset_of_any_layout_is_exported(layout, tmp_path):
    out = tmp_path / "out"
    api.render(rows(10), out, model="fake", shard_size=4, format=layout, **INLINE)
    export(out, tmp_path / "d")
    found = pq.read_table(tmp_path / "d" / "data").to_pylist()

    assert [row["seed"] for row in found] == list(range(10))
    assert all(Image.open(io.BytesIO(row["image"]["bytes"])).size == (64, 64) for row in found)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_without_splits_is_one_split(kind, out, tmp_path, load):
    export(out, tmp_path / "d", format=kind)
    found = load(tmp_path / "d")

    assert set(found) == {"train"}
    assert len(found["train"]) == len(ledger(out))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_the_card_says_to_run_runs(kind, out, tmp_path, monkeypatch, capsys):
    import datasets

    export(out, tmp_path / "d", format=kind, **TERMS[kind])
    monkeypatch.chdir(tmp_path / "d")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    card = (tmp_path / "d" / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    for block in blocks:
        if "torchvision" not in block:
            exec(block, {})

    assert len(blocks) >= 2
    assert str(len(ledger(out))) in capsys.readouterr().out
    assert "<b>" not in card


def test_markup_in_options_and_names_stays_text_in_the_card(tmp_path):
    render(tmp_path / "out", count=3, model="fake")
    export(tmp_path / "out", tmp_path / "d<b>x", where="prompt != '<script>'")
    card = (tmp_path / "d<b>x" / "README.md").read_text()

    assert "<script>" not in card
    assert "# d&lt;b&gt;x" in card

"""`open_dataset`: what one asks of a dataset from Python, whatever its layout."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from sdbatch import api
from sdbatch.dataset.images import decode
from sdbatch.errors import InputError, JobError
from sdbatch.render.fake import read_fake
from tests.report.nasty import NASTY

LAYOUTS = ("parquet", "webdataset", "files")


def draw(folder, layout="parquet", fail=0.2):
    rows = [
        {"prompt": NASTY[i % len(NASTY)], "guidance_scale": float(i % 4), "tag": f"t{i}"}
        for i in range(40)
    ]
    api.render(
        rows, folder, model=f"fake:fail={fail}", engine="inline", size="64x64", shard_size=10,
        format=layout, allow_failed="100%",
    )  # fmt: skip
    return api.open_dataset(folder)


@pytest.fixture(scope="module", params=LAYOUTS)
def dataset(request, tmp_path_factory):
    return draw(tmp_path_factory.mktemp("opened") / "out", request.param)


def test_tables_hold_every_row_of_every_layout(dataset):
    drawn, failed = dataset.to_table(), dataset.errors()
    indices = sorted(drawn["row_index"].to_pylist() + failed["row_index"].to_pylist())

    assert indices == list(range(40))
    assert dataset.status().success == drawn.num_rows
    assert "image" not in drawn.column_names
    assert dataset.to_table(["tag", "key"]).column_names == ["tag", "key"]
    with pytest.raises(InputError, match="there are"):
        dataset.to_table(["nothing"])


def test_pictures_can_be_asked_for_as_a_column(dataset):
    rows = dataset.to_table(["key", "sha256", "image"]).to_pylist()

    assert len(rows) == dataset.status().success
    for row in rows:
        assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["sha256"]


def test_pictures_are_chosen_by_a_condition_in_order_and_no_more_than_asked_for(dataset):
    found = dataset.pictures("guidance_scale >= 2 and tag != 't2'", limit=7)
    wanted = [
        row["key"]
        for row in dataset.to_table(["key", "guidance_scale", "tag"]).to_pylist()
        if row["guidance_scale"] >= 2 and row["tag"] != "t2"
    ]

    assert [picture.key for picture in found] == wanted[:7]
    assert len(found[2:4]) == 2
    for picture in found:
        painted = read_fake(decode(picture.data))
        assert painted.row_index == picture.columns["row_index"]
        assert picture.image().size == (64, 64)
    assert len(dataset.pictures(limit=0)) == 0
    with pytest.raises(InputError, match="guidance_scale"):
        dataset.pictures("guidance_scal > 1")
    with pytest.raises(InputError, match="image"):
        dataset.pictures("image is not null")


def test_a_notebook_shows_a_grid_whose_texts_are_text(dataset):
    found = dataset.pictures()
    html = found._repr_html_()
    tags = set(re.findall(r"<\s*/?([a-zA-Z]+)", html))

    assert tags == {"div", "img"}
    assert html.count("data:image/webp;base64,") == len(found) == 24
    assert not re.search(r'src="(?!data:)', html)
    assert "window.attacked" in html
    assert found._repr_png_().startswith(b"\x89PNG")
    assert found[0]._repr_png_().startswith(b"\x89PNG")
    assert dataset.pictures("tag = 'none'")._repr_png_() is None
    assert "no pictures" in dataset.pictures("tag = 'none'")._repr_html_()


@pytest.mark.readers
def test_hugging_face_gets_every_picture_and_column(dataset, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    loaded = dataset.to_hf()
    table = dataset.to_table(["key", "tag", "prompt"])

    assert loaded["key"][:] == table["key"].to_pylist()
    assert loaded["tag"][:] == table["tag"].to_pylist()
    assert loaded["prompt"][:] == table["prompt"].to_pylist()
    assert isinstance(loaded.features["image"], datasets.Image)
    assert (
        read_fake(np.asarray(loaded[3]["image"].convert("RGB"))).row_index == loaded[3]["row_index"]
    )


@pytest.mark.readers
def test_hugging_face_gets_what_stands_now_not_what_its_cache_holds(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"prompt": f"p {i}"} for i in range(4)]
    options = {"model": "fake", "engine": "inline", "size": "64x64"}
    api.render(rows, tmp_path / "out", **options)
    before = api.open_dataset(tmp_path / "out").to_hf().num_rows
    api.render(rows[:3], tmp_path / "out", append="night", **options)

    assert (before, api.open_dataset(tmp_path / "out").to_hf().num_rows) == (4, 7)


def test_a_dataset_without_rows_keeps_its_columns(tmp_path):
    dataset = draw(tmp_path / "out", fail=1.0)
    whole = draw(tmp_path / "whole", fail=0.0)

    assert dataset.to_table().num_rows == 0
    assert dataset.to_table().schema.equals(whole.to_table().schema)
    assert whole.errors().schema.equals(dataset.errors().schema)
    assert dataset.to_table(["key"]).schema == pa.schema([("key", pa.string())])
    assert len(dataset.pictures()) == 0


def test_one_key_is_replayed_what_failed_is_retried_and_all_is_exported(tmp_path):
    dataset = draw(tmp_path / "out")
    report = dataset.replay("000000001_000")
    assert [picture.equal for picture in report.pictures] == [True]
    failed = dataset.errors().num_rows
    summary = dataset.retry(engine="inline", reseed=7, allow_failed="100%")
    assert dataset.errors().num_rows < failed
    assert summary.exit_code == 0
    made = dataset.export(tmp_path / "copy", where="guidance_scale > 0")
    wanted = [scale for scale in dataset.to_table(["guidance_scale"])[0].to_pylist() if scale > 0]
    assert made.exported == len(wanted)


def test_log_options_are_those_of_the_command_line(tmp_path):
    dataset = draw(tmp_path / "out")

    assert list(dataset.logs(session="all", tail=1))
    with pytest.raises(JobError, match="'shard'"):
        dataset.logs(shards=1)


def test_a_dataset_opens_and_answers_without_torch_or_ray(tmp_path):
    draw(tmp_path / "out")
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, ray=None, diffusers=None, transformers=None)\n"
        "import sdbatch\n"
        f"dataset = sdbatch.open_dataset({str(tmp_path / 'out')!r})\n"
        "dataset.status(), dataset.errors(), dataset.to_table(['key']), dataset.watch().look()\n"
        "assert dataset.pictures('guidance_scale > 1', 3)._repr_html_()\n"
        "assert list(dataset.logs()) and dataset.failures().failed\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr

"""Replay over the fake model: what is equal, what differs, and what is said of it."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.engine import replay as replay_module
from sdbatch.errors import InputError, ModelError, StorageError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.fake import FakeRenderer

INLINE = {"engine": "inline", "size": "64x64", "shard_size": 4}


@pytest.fixture
def drawn(manifest, tmp_path):
    """A dataset of ten rows, two pictures each, in three shards."""
    out = tmp_path / "out"
    api.render(manifest(10), out, model="fake", num_images_per_prompt=2, **INLINE)
    return api.open_dataset(out)


@pytest.fixture
def half_failed(manifest, tmp_path):
    out = tmp_path / "half"
    api.render(manifest(10), out, model="fake:fail=0.5", **INLINE)
    return api.open_dataset(out)


def rewrite(dataset, kind, key, change):
    """Change one row of a committed file, as a careless hand would."""
    for path in Path(dataset.store.url, kind).glob("*.parquet"):
        table = pq.read_table(path)
        rows = table.to_pylist()
        for row in rows:
            if row["key"] == key:
                change(row)
                pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def paint(row):
    """Make one value of the stored picture 255; returns by how much it was less."""
    pixels = np.array(Image.open(io.BytesIO(row["image"]["bytes"])))
    before, pixels[40, 20, 1] = int(pixels[40, 20, 1]), 255
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    row["image"]["bytes"] = target.getvalue()
    return 255 - before


def test_pictures_drawn_again_are_equal_and_no_fact_has_changed(drawn):
    report = drawn.replay(["000000003_001", "000000009_000"])

    assert report.exit_code == 0
    assert [picture.key for picture in report.pictures] == ["000000003_001", "000000009_000"]
    for picture in report.pictures:
        assert (picture.equal, picture.largest, picture.changes) == (True, 0, ())
        assert math.isinf(picture.psnr_db)
    assert report.describe().splitlines()[-1] == "2 drawn again: 2 equal"


def test_the_manifest_is_not_needed(drawn, tmp_path):
    (tmp_path / "rows.parquet").unlink()
    for path in Path(drawn.store.url, "__sdbatch", "main", "manifest").glob("*"):
        path.unlink()

    assert drawn.replay([5]).exit_code == 0


def test_a_row_number_stands_for_all_pictures_of_the_row_once(drawn):
    report = drawn.replay([3, "3", "000000003_001"])

    assert [picture.key for picture in report.pictures] == ["000000003_000", "000000003_001"]


def test_one_changed_value_is_found_measured_and_named(drawn):
    painted = []
    rewrite(drawn, "data", "000000003_001", lambda row: painted.append(paint(row)))

    report = drawn.replay([3])

    same, other = report.pictures
    assert report.exit_code == 4
    assert same.equal
    assert not other.equal
    assert other.largest == painted[0] > 0
    assert other.share == 1 / (64 * 64 * 3)
    expected = 10 * math.log10(255**2 / (other.largest**2 * other.share))
    assert other.psnr_db == pytest.approx(expected)
    assert [change.name for change in other.changes] == ["pixel_sha256"]
    assert "PSNR" in report.describe()
    assert "not the one that was drawn" in report.describe()
    assert report.describe().endswith("2 drawn again: 1 equal, 1 differ")


def test_facts_that_are_no_longer_true_are_shown_beside_equal_pixels(drawn):
    old = {"render_env": "cuda (H200)", "torch_version": "1.0"}
    rewrite(drawn, "metadata", "000000002_000", lambda row: row.update(old))

    (picture,) = drawn.replay(["000000002_000"]).pictures

    assert picture.equal
    assert {change.name: change.stored for change in picture.changes} == old
    assert all(change.now != change.stored for change in picture.changes)


def test_a_request_that_was_changed_shows_in_its_hash(drawn):
    rewrite(drawn, "metadata", "000000002_000", lambda row: row.update(prompt="another"))

    (picture,) = drawn.replay(["000000002_000"]).pictures

    assert [change.name for change in picture.changes] == ["row_hash"]


def test_a_failed_row_fails_again(half_failed):
    failed = half_failed.errors(["key"])["key"].to_pylist()
    assert failed

    report = half_failed.replay(failed)

    assert report.exit_code == 0
    assert all(picture.stored == picture.now == "failed" for picture in report.pictures)
    assert report.describe().count("equal: fails again with FakeError: this row was chosen") == len(
        failed
    )


def always_drawing(render, *_):
    return FakeRenderer(RenderSpec("fake", "fake:", "", "auto", {}, 1), ())


def always_failing(render, *_):
    return FakeRenderer(RenderSpec("fake", "fake:fail=1", "", "auto", {}, 1), ())


def test_a_failed_row_that_is_drawn_now_differs_and_its_picture_is_shown(
    half_failed, monkeypatch, tmp_path
):
    monkeypatch.setattr(replay_module, "load_planned", always_drawing)
    key = half_failed.errors(["key"])["key"][0].as_py()

    report = half_failed.replay([key], out=tmp_path / "seen")

    assert report.exit_code == 4
    assert report.pictures[0].files == (str(tmp_path / "seen" / f"{key}-now.png"),)
    assert "differs: failed with FakeError: this row was chosen to fail, is drawn now" in (
        report.describe()
    )


def test_a_picture_that_fails_now_differs(drawn, monkeypatch):
    monkeypatch.setattr(replay_module, "load_planned", always_failing)

    report = drawn.replay(["000000000_000"])

    assert report.exit_code == 4
    assert "differs: was drawn, fails now with FakeError" in report.describe()


def test_pictures_to_look_at_are_the_pixels_themselves(drawn, tmp_path):
    rewrite(drawn, "data", "000000003_001", paint)

    (picture,) = drawn.replay(["000000003_001"], out=tmp_path / "seen").pictures

    stored, now, compared = (np.asarray(Image.open(path)) for path in picture.files)
    assert stored.shape == now.shape == (64, 64, 3)
    assert np.argwhere(stored != now).tolist() == [[40, 20, 1]]
    assert compared.shape[1] > 3 * 64


def test_the_report_is_json_although_equal_pictures_have_no_finite_psnr(drawn):
    body = json.loads(json.dumps(drawn.replay([1]).to_dict(), allow_nan=False))

    assert body["exit_code"] == 0
    assert body["pictures"][0]["psnr_db"] is None


def test_another_revision_of_the_model_is_refused_with_the_way_on(half_failed):
    with pytest.raises(ModelError, match=r"is revision .* the plan was made with .*: name the"):
        half_failed.replay([0], model="fake")


def test_a_folder_that_cannot_be_written_is_a_storage_error(drawn, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StorageError, match="name a place that can be written"):
        drawn.replay(["000000000_000"], out=tmp_path / "file")


def test_where_there_is_no_run_there_is_nothing_to_replay(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        api.open_dataset(tmp_path).replay([0])

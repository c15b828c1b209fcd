"""Previews: the very pictures of the run, from all over the manifest, and no output touched."""

import numpy as np
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.engine import preview as preview_module
from sdbatch.engine.probe_rows import spread_rows
from sdbatch.errors import InputError, JobError

FAKE = {"model": "fake", "size": "64x64"}


@pytest.fixture
def drawn(monkeypatch):
    """The rows that a preview asks for and the items of its sheet."""
    seen = {}
    sheet = preview_module.contact_sheet

    def keep_rows(*args):
        seen["rows"] = spread_rows(*args)
        return seen["rows"]

    def keep_items(items, columns):
        seen["items"] = list(items)
        return sheet(items, columns)

    monkeypatch.setattr(preview_module, "spread_rows", keep_rows)
    monkeypatch.setattr(preview_module, "contact_sheet", keep_items)
    return seen


def test_rows_are_spread_and_drawn_as_the_run_draws_them(tmp_path, drawn):
    rows = [{"prompt": f"p {i % 30}"} for i in range(90)]  # equal rows differ by their seed
    made = api.preview(rows, rows=10, out=tmp_path / "sheet.png", **FAKE)
    api.render(rows, tmp_path / "out", engine="inline", **FAKE)
    names = ["row_index", "seed", "row_hash"]
    table = api.open_dataset(tmp_path / "out").to_table(names).to_pylist()

    assert made.drawn == made.rows == 10
    places = [row.row_index for row in drawn["rows"]]
    assert places == [0, 9, 19, 29, 39, 49, 59, 69, 79, 89]
    for row in drawn["rows"]:
        stored = table[row.row_index]
        assert (row.seed, row.row_hash) == (stored["seed"], stored["row_hash"])


def test_a_preview_writes_its_sheet_and_nothing_else(manifest, tmp_path, monkeypatch):
    source = manifest(50)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    made = api.preview(source, rows=4, **FAKE)

    assert {path.name for path in set(tmp_path.rglob("*")) - before} == {"sheet.png"}
    assert Image.open(tmp_path / made.file).size[0] > 500


def test_time_and_size_are_those_of_all_rows(manifest, tmp_path):
    options = FAKE | {"model": "fake:ms=20"}
    made = api.preview(
        manifest(1000), rows=5, out=tmp_path / "s.png", price_per_hour=2.0, **options
    )

    assert made.images == 1000
    assert 0.02 <= made.seconds_per_image < 0.2
    assert made.seconds == pytest.approx(1000 * made.seconds_per_image, rel=0.01)
    assert made.cost == pytest.approx(made.gpu_hours * 2.0)
    assert made.size_bytes > 1000 * 64 * 64
    assert "the whole run: 1,000 images" in made.describe()


def test_rows_that_fail_keep_their_place_on_the_sheet(manifest, tmp_path, drawn):
    made = api.preview(
        manifest(60), rows=30, out=tmp_path / "s.png", **FAKE | {"model": "fake:fail=0.5"}
    )

    assert 0 < made.drawn < 30
    assert made.drawn + len(made.failures) == len(drawn["items"]) == 30
    failed = [pixels for pixels, label in drawn["items"] if " failed: FakeError" in label]
    assert len(failed) == len(made.failures)
    assert all(np.ptp(pixels.reshape(-1, 3), axis=0).max() == 0 for pixels in failed)


def test_a_run_that_wholly_fails_has_no_time(manifest, tmp_path):
    made = api.preview(
        manifest(5), rows=2, out=tmp_path / "s.png", **FAKE | {"model": "fake:fail=1"}
    )

    assert (made.drawn, made.seconds_per_image, made.seconds) == (0, None, None)


def test_what_cannot_be_previewed_is_refused(manifest, tmp_path):
    with pytest.raises(InputError, match="--rows 0"):
        api.preview(manifest(5), rows=0, out=tmp_path / "s.png", **FAKE)
    with pytest.raises(JobError, match="num_inference_steps"):
        api.preview(manifest(5), num_inference_step=2)
    assert not (tmp_path / "s.png").exists()

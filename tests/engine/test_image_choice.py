"""Whole runs in every format: what is stored is what was drawn, and can be proven so."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.cli.main import main
from sdbatch.dataset import encoders, png_writer
from sdbatch.dataset.images import decode
from sdbatch.engine import worker
from sdbatch.errors import JobError, PlanChangedError
from tests.engine.reworks import ENGINE, is_exact, spoilt
from tests.engine.runs import INLINE, run_until

RUNS = {
    "png": {},
    "small png": {"png_level": 9},
    "jpeg": {"image_format": "jpeg", "quality": 80, "chroma": "444"},
    "webp": {"image_format": "webp"},
    "lossless webp": {"image_format": "webp", "lossless": True},
    "avif": {"image_format": "avif", "quality": 60},
    "jxl": {"image_format": "jxl"},
    "lossless jxl": {"image_format": "jxl", "lossless": True},
    "saved smaller": {"save_size": "32x48"},
    "saved smaller, lossy": {"save_size": "32x48", "image_format": "jpeg"},
}
QUALITY = ["is_blank", "is_uniform", "mean_luma", "sharpness", "dhash"]


def drawn(manifest, out, rows=6, model="fake", **options):
    return api.render(manifest(rows), out, model=model, **{**INLINE, "shard_size": 3, **options})


def rows_of(out):
    return [
        row for path in api.open_dataset(out).files() for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_of_any_format_is_sound_and_draws_the_same_again(name, manifest, tmp_path):
    options = RUNS[name]
    drawn(manifest, tmp_path / "out", **options)
    dataset = api.open_dataset(tmp_path / "out")
    rows = rows_of(tmp_path / "out")

    assert len(rows) == 6
    assert {row["format"] for row in rows} == {options.get("image_format", "png")}
    size = (32, 48) if "save_size" in options else (64, 64)
    for row in rows:
        pixels = decode(row["image"]["bytes"])
        assert (row["image_width"], row["image_height"]) == size == pixels.shape[1::-1]
        assert (row["width"], row["height"]) == (64, 64)
        assert row["image"]["path"] == f"{row['key']}.{row['format']}"
    assert dataset.verify(level=3).exit_code == 0
    replayed = dataset.replay([0, 3, 5])
    assert replayed.exit_code == 0
    assert not any(picture.changes for picture in replayed.pictures)


def test_pixel_hashes_and_quality_are_those_of_the_drawn_pixels_in_every_format(manifest, tmp_path):
    found = []
    for name in ("png", "small png", "jpeg", "webp", "lossless jxl"):
        drawn(manifest, tmp_path / name, **RUNS[name])
        columns = ["key", "pixel_sha256", *QUALITY]
        found.append(api.open_dataset(tmp_path / name).to_table(columns).to_pylist())

    assert all(rows == found[0] for rows in found)
    assert len({row["dhash"] for row in found[0]}) > 1


def test_a_lossy_picture_of_something_else_is_told_by_replay(manifest, tmp_path, monkeypatch):
    from sdbatch.engine import replay as module
    from sdbatch.render.fake import FakeRenderer

    drawn(manifest, tmp_path / "out", **RUNS["jpeg"])

    class Other(FakeRenderer):
        def render(self, rows):
            for image in super().render(rows):
                image.pixels[3:9, 5:20] ^= 255
                yield image

    monkeypatch.setattr(module, "load_planned", lambda spec, *_: Other(spec, ()))
    (picture,) = api.open_dataset(tmp_path / "out").replay([2]).pictures

    assert not picture.equal
    assert 5 < picture.psnr_db < 40


def test_a_broken_lossy_file_is_found(manifest, tmp_path):
    drawn(manifest, tmp_path / "out", **RUNS["jpeg"])
    (path, *_) = sorted((tmp_path / "out" / "data").glob("*.parquet"))
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xda") + 30
    data[at : at + 4] = bytes(byte ^ 85 for byte in data[at : at + 4])
    path.write_bytes(data)
    report = api.open_dataset(tmp_path / "out").verify(level=3)

    assert report.exit_code != 0


@pytest.mark.parametrize("name", ["png", "jpeg"])
def test_a_retry_keeps_the_format_and_gives_the_same_quality_columns(
    name, manifest, tmp_path, monkeypatch
):
    out = spoilt(manifest, tmp_path, monkeypatch, **RUNS[name])
    assert api.retry(out, **ENGINE).exit_code == 0
    api.render(manifest(40), tmp_path / "whole", model="fake", **INLINE, **RUNS[name])
    columns = ["row_index", "format", "pixel_sha256", "sha256", *QUALITY]

    assert is_exact(out)
    assert sorted_rows(out, columns) == sorted_rows(tmp_path / "whole", columns)


def sorted_rows(out, columns):
    rows = api.open_dataset(out).to_table(columns).to_pylist()
    return sorted(rows, key=lambda row: row["row_index"])


def test_the_same_command_resumes_and_so_does_a_bare_one(manifest, tmp_path, monkeypatch):
    options = {**INLINE, "model": "fake", "shard_size": 2}
    table, out = manifest(8), tmp_path / "out"
    run_until(2, monkeypatch, table, out, image_format="webp", quality=77, **options)
    summary = api.render(table, out, **options)

    assert summary.exit_code == 0
    assert {row["format"] for row in rows_of(out)} == {"webp"}
    assert api.render(table, out, image_format="webp", **options).exit_code == 0
    with pytest.raises(PlanChangedError, match=r"image\.quality"):
        api.render(table, out, quality=50, **options)


def test_a_plan_whose_encoder_is_gone_is_refused(manifest, tmp_path, monkeypatch):
    drawn(manifest, tmp_path / "out", **RUNS["jxl"])
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)

    with pytest.raises(JobError, match=r"jxl: JPEG XL needs a plugin"):
        drawn(manifest, tmp_path / "out")


def test_png_goes_on_as_it_began_where_the_fast_writer_is_missing(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(png_writer, "AVAILABLE", False)
    drawn(manifest, tmp_path / "slow")
    job = json.loads(next((tmp_path / "slow" / "__sdbatch").glob("**/job.json")).read_text())
    assert job["spec"]["image"]["png_level"] == 1

    monkeypatch.setattr(png_writer, "AVAILABLE", True)
    assert drawn(manifest, tmp_path / "slow").exit_code == 0
    drawn(manifest, tmp_path / "fast")
    fast = {row["key"]: row for row in rows_of(tmp_path / "fast")}
    for row in rows_of(tmp_path / "slow"):
        other = fast[row["key"]]
        assert row["pixel_sha256"] == other["pixel_sha256"]
        assert np.array_equal(decode(row["image"]["bytes"]), decode(other["image"]["bytes"]))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--image-format", "bmp"], "'bmp' is not one of 'png', 'jpeg', 'webp', 'avif', 'jxl'"),
        (["--image-format", "jpeg", "--quality", "101"], "--quality: image.quality"),
        (["--quality", "80"], "png keeps every pixel, choose jpeg, webp, avif or jxl"),
        (["--chroma", "444"], "--chroma: image.chroma: 444: png keeps every pixel"),
        (["--image-format", "jpeg", "--lossless"], "choose webp, jxl or png"),
        (["--save-size", "big"], "--save-size: image.save_size: value error, write WIDTHxHEIGHT"),
        (["--png-level", "10"], "--png-level: image.png_level"),
        (["--caption-column", "prompt"], "column 'prompt' is a column of the dataset"),
    ],
)
def test_bad_settings_end_with_code_2_and_say_what_would_be_right(flags, said, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["render", "--prompt", "a fox", str(out), "--model", "fake", "--engine", "inline"]
    with pytest.raises(SystemExit) as ended:
        main([*asked, *flags])

    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_format_that_is_not_installed_is_refused_before_anything_is_written(
    manifest, tmp_path, monkeypatch
):
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)

    with pytest.raises(JobError, match=r"^--image-format: image\.format: jxl: .*sdbatch\[jxl\]"):
        drawn(manifest, tmp_path / "out", image_format="jxl")
    assert not (tmp_path / "out").exists()


def test_a_worker_without_the_planned_encoder_ends_the_run_with_its_remedy(
    manifest, tmp_path, monkeypatch
):
    def refuse(spec):
        raise JobError(f"image.format: {spec.format}: pip install 'sdbatch[jxl]'")

    monkeypatch.setattr(worker, "demand_encoder", refuse)

    with pytest.raises(JobError, match=r"avif: pip install"):
        drawn(manifest, tmp_path / "out", image_format="avif")
    monkeypatch.undo()
    assert drawn(manifest, tmp_path / "out", image_format="avif").exit_code == 0


def test_a_caption_column_repeats_the_prompt(manifest, tmp_path):
    drawn(manifest, tmp_path / "out", caption_column="text")
    table = api.open_dataset(tmp_path / "out").to_table(["prompt", "text"])

    assert table["text"].to_pylist() == table["prompt"].to_pylist()


def test_a_plan_expects_fewer_bytes_of_smaller_files(manifest):
    sizes = {
        name: api.plan(manifest(100), model="fake", **INLINE, **options).size_bytes
        for name, options in RUNS.items()
    }

    assert sizes["jpeg"] < sizes["lossless webp"] < sizes["png"] == sizes["small png"]
    assert sizes["saved smaller, lossy"] < sizes["saved smaller"] < sizes["png"]


def test_stored_pictures_open_in_pillow_alone(manifest, tmp_path):
    drawn(manifest, tmp_path / "out", **RUNS["avif"])
    with Image.open(io.BytesIO(rows_of(tmp_path / "out")[0]["image"]["bytes"])) as image:
        assert (image.format, image.mode, image.size) == ("AVIF", "RGB", (64, 64))

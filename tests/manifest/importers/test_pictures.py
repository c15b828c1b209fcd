"""Pictures and folders of them as rows."""

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from sdbatch.errors import InputError, InputPictureError, ManifestError
from sdbatch.manifest.importers.kinds import read_source
from tests.manifest.importers.test_files import GRAPH

TEXT = "a füx\nNegative prompt: dull\nSteps: 9, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 8x8"


def rows(source, folder, kind=None, prompt_from=None):
    read = read_source(str(source), str(folder), kind, prompt_from)
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in pa.concat_tables(read).to_pylist()
    ]


def save_png(path, *, international=False, **texts):
    chunks = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        chunks.add_itxt(name, text) if international else chunks.add_text(name, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)


def save_exif(path, comment):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    Image.new("RGB", (8, 8)).save(path, exif=exif)


COMMENTS = {
    "big": b"UNICODE\0" + TEXT.encode("utf-16-be"),
    "little": b"UNICODE\0" + TEXT.encode("utf-16-le"),
    "utf8": b"ASCII\0\0\0" + TEXT.encode(),
}


def test_infotexts_of_png_jpeg_and_webp(tmp_path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    save_png(folder / "a.png", parameters=TEXT)
    save_png(folder / "b.png", parameters=TEXT, international=True)
    for name, comment in COMMENTS.items():
        save_exif(folder / f"{name}.jpg", comment)
        save_exif(folder / "sub" / f"{name}.webp", comment)
    (folder / "notes.txt").write_text("no picture")
    found = rows(folder, tmp_path)

    assert [row.pop("source_file") for row in found] == [
        *("a.png", "b.png", "big.jpg", "little.jpg", "utf8.jpg"),
        *("sub/big.webp", "sub/little.webp", "sub/utf8.webp"),
    ]
    assert found == [found[0]] * 8
    assert found[0]["prompt"] == "a füx"
    assert found[0]["seed"] == 5


def test_comfyui_graph_of_a_png(tmp_path):
    save_png(tmp_path / "a.png", prompt=json.dumps(GRAPH), workflow="{}")
    (row,) = rows(tmp_path / "a.png", tmp_path)

    assert row["prompt"] == "a fox"
    assert row["source_file"] == "a.png"


def test_a_picture_without_a_prompt_is_refused_with_the_ways_on(tmp_path):
    save_png(tmp_path / "a_red_fox.png")

    with pytest.raises(InputPictureError, match="--prompt-from txt, filename or none"):
        rows(tmp_path, tmp_path)
    assert rows(tmp_path, tmp_path, None, "filename")[0]["prompt"] == "a red fox"
    (tmp_path / "a_red_fox.txt").write_text("a caption\n")
    assert rows(tmp_path, tmp_path, None, "txt")[0]["prompt"] == "a caption"


@pytest.mark.parametrize("task", ["image2image", "upscale", "colorize"])
def test_a_folder_becomes_a_row_a_picture_for_a_task(tmp_path, task):
    save_png(tmp_path / "a.png", parameters=TEXT)
    (row,) = rows(tmp_path, tmp_path, task)

    assert row["task"] == task
    assert row["image"] == str(tmp_path / "a.png")
    assert row["prompt"] == ("a füx" if task == "image2image" else "")
    assert "seed" not in row
    assert row.get("source_seed") == ("5" if task == "image2image" else None)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="holds no picture"):
        rows(tmp_path, tmp_path)


def test_where_prompts_are_is_only_asked_of_pictures(tmp_path):
    (tmp_path / "a.txt").write_text("a fox --w 64\n")
    with pytest.raises(InputError, match="is of pictures"):
        rows(tmp_path / "a.txt", tmp_path, "kohya", "filename")
    with pytest.raises(InputError, match="reads one file"):
        rows(tmp_path, tmp_path, "kohya")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["a.png", "big.jpg", "big.webp"]),
    st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=6),
    st.none() | st.integers(0, 500),
)
def test_a_damaged_picture_gives_a_row_or_a_clear_error(tmp_path, name, changes, end):
    good = tmp_path / name
    if not good.exists():
        save_png(good, parameters=TEXT) if good.suffix == ".png" else save_exif(
            good, COMMENTS["big"]
        )
    data = bytearray(good.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    bad = tmp_path / f"bad-{name}"
    bad.write_bytes(bytes(data[:end]))
    try:
        found = rows(bad, tmp_path)
    except InputError:
        return
    assert isinstance(found[0]["prompt"], str)

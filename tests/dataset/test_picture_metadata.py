"""Pictures say what they were asked for, in bytes that depend on nothing else."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sdbatch
from sdbatch.dataset.images import encode
from sdbatch.dataset.picture_metadata import LEVELS, picture_metadata
from sdbatch.manifest.importers.infotext_rows import infotext_row
from sdbatch.manifest.importers.kinds import read_source
from sdbatch.manifest.importers.picture_text import read_texts
from sdbatch.manifest.scheduler_names import choose_scheduler
from sdbatch.manifest.written import write_manifest
from sdbatch.output_specs import ImageSpec
from tests.dataset.samples import pixels, row

TEXTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=15),
        st.sampled_from(["Negative prompt: x", "Steps: 3, Seed: 4", " ", "(a:1.2)", "ü", "\r"]),
    ),
    max_size=3,
).map("\n".join)
SCHEDULERS = [
    ("DDIMScheduler", ""),
    ("DPMSolverMultistepScheduler", '{"use_karras_sigmas":true}'),
    ("EulerDiscreteScheduler", '{"beta_start":0.01,"use_karras_sigmas":true}'),
    ("DPMSolverMultistepScheduler", '{"algorithm_type":"sde-dpmsolver++","solver_order":3}'),
    ("SomeNewScheduler", '{"a":"b, c: d"}'),
]


def info_of(data):
    with Image.open(io.BytesIO(data)) as image:
        return dict(image.info)


def test_the_levels_say_both_or_the_mark_or_nothing():
    data = {
        level: encode(pixels(3), ImageSpec(), picture_metadata(row(3), level, "a/b", "f" * 40)).data
        for level in LEVELS
    }

    assert info_of(data["infotext"])["parameters"] == (
        "prompt 3\nSteps: 12, Sampler: DDIM, CFG scale: 3.5, Seed: 1003, Size: 8x4, "
        "Model hash: ffffffffff, Model: b, Prompt syntax: plain, Version: sdbatch"
    )
    for level in ("infotext", "minimal"):
        assert "trainedAlgorithmicMedia" in info_of(data[level])["XML:com.adobe.xmp"]
    assert "parameters" not in info_of(data["minimal"])
    assert data["none"] == encode(pixels(3), ImageSpec()).data
    assert not info_of(data["none"])


def test_the_same_row_gives_the_same_bytes_and_the_same_pixels():
    said = picture_metadata(row(3), "infotext", "m", "r")
    first, again = (encode(pixels(3), ImageSpec(), said) for _ in range(2))

    assert first == again
    assert first.pixel_sha256 == encode(pixels(3), ImageSpec()).pixel_sha256
    assert (np.asarray(Image.open(io.BytesIO(first.data))) == pixels(3)).all()


@given(
    TEXTS,
    TEXTS,
    st.integers(0, 2**63 - 1),
    st.floats(0, 1e6, width=32),
    st.sampled_from(SCHEDULERS),
    st.sampled_from(["plain", "a1111"]),
    st.sampled_from(["", '{"crops_coords_top_left":[0,9],"original_size":[512,256]}']),
)
def test_a_picture_gives_its_whole_request_back(
    prompt, negative, seed, cfg, scheduler, syntax, micro
):
    asked = replace(
        row(1),
        prompt=prompt,
        negative_prompt=negative,
        seed=seed,
        guidance_scale=cfg,
        scheduler=scheduler[0],
        scheduler_config=scheduler[1],
        prompt_syntax=syntax,
        micro_conditioning=micro,
    )
    read = infotext_row(picture_metadata(asked, "infotext", "m", "r").infotext)

    assert read["prompt"] == prompt
    assert read.get("negative_prompt", "") == negative
    assert (read["seed"], read["width"], read["height"]) == (seed, 8, 4)
    assert np.float32(read["guidance_scale"]) == np.float32(cfg)
    assert read["prompt_syntax"] == syntax
    assert read.get("micro_conditioning", "") == micro
    words = (read["scheduler"], read.get("schedule_type", ""), read.get("scheduler_config", ""))
    drawn = choose_scheduler(*words)
    assert (drawn.scheduler, drawn.config) == scheduler


def rendered(manifest, out):
    sdbatch.render(
        manifest, str(out), model="fake", engine="inline", size="64x64", guidance_scale=7.1
    )
    return pa.concat_tables([pq.read_table(path) for path in sorted(out.glob("data/*.parquet"))])


def test_imported_pictures_are_the_rows_they_were_drawn_from(tmp_path):
    asked = [
        {"prompt": "a (red) fox", "seed": 5, "num_images_per_prompt": 2},
        {"prompt": "füchse\nSteps: 9, zwei ", "negative_prompt": "trüb, dull", "seed": 2**40},
        {"prompt": "weighted (fox:1.2)", "prompt_syntax": "a1111", "seed": 1},
        {"prompt": "b", "scheduler": "DPM++ 2M Karras", "num_inference_steps": 7, "seed": 2},
        {"prompt": "c", "scheduler_config": '{"beta_start": 0.001}', "width": 128, "seed": 3},
        {"prompt": "no seed of its own"},
    ]
    first = rendered(asked, tmp_path / "one")
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures = first.select(["key", "row_hash", "image"]).to_pylist()
    for each in pictures:
        (folder / f"{each['key']}.png").write_bytes(each["image"]["bytes"])
    read = read_source(str(folder), str(tmp_path))
    write_manifest(tmp_path / "again.parquet", read.schema, read)
    second = rendered(str(tmp_path / "again.parquet"), tmp_path / "two")

    assert first.num_rows == second.num_rows == 7
    wanted = {f"{each['key']}.png": each["row_hash"] for each in pictures}
    drawn = second.select(["source_file", "row_hash"]).to_pylist()
    assert {each["source_file"]: each["row_hash"] for each in drawn} == wanted


@pytest.mark.parametrize("level", ["minimal", "none"])
def test_a_run_may_say_less(tmp_path, level):
    sdbatch.render(
        ["a fox"], str(tmp_path / "out"), model="fake", engine="inline", size="64x64",
        picture_metadata=level,
    )  # fmt: skip
    (path,) = tmp_path.glob("out/data/*.parquet")
    (image,) = pq.read_table(path)["image"].to_pylist()

    assert ("XML:com.adobe.xmp" in info_of(image["bytes"])) == (level == "minimal")
    assert "parameters" not in info_of(image["bytes"])


FORMATS = {
    "png": ImageSpec(png_level="fast"),
    "jpeg": ImageSpec("jpeg", quality=80, chroma="420"),
    "webp": ImageSpec("webp", quality=80, chroma="420"),
    "webp-lossless": ImageSpec("webp", lossless=True),
    "avif": ImageSpec("avif", quality=60, chroma="444"),
    "jxl": ImageSpec("jxl", quality=80),
    "jxl-lossless": ImageSpec("jxl", lossless=True),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "prompt",
    ["a fox", "füchse\nSteps: 9, zwei ", "一" * 3000, "\U0001f98a 匀琀攀瀀猀㨀 <b>&\"'", " "],
)
def test_every_format_gives_the_request_back(tmp_path, name, prompt):
    asked = row(5, prompt=prompt)
    said = picture_metadata(asked, "infotext", "m", "r")
    data = encode(pixels(5), FORMATS[name], said).data
    path = tmp_path / f"a.{FORMATS[name].format}"
    path.write_bytes(data)
    texts = read_texts(path)

    assert texts.infotext == said.infotext
    assert infotext_row(texts.infotext)["prompt"] == prompt
    assert (texts.width_px, texts.height_px) == (8, 4)
    assert b"trainedAlgorithmicMedia" in data


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_say_less(name):
    minimal = encode(pixels(5), FORMATS[name], picture_metadata(row(5), "minimal")).data
    nothing = encode(pixels(5), FORMATS[name]).data

    assert b"trainedAlgorithmicMedia" in minimal
    assert b"trainedAlgorithmicMedia" not in nothing
    assert b"Sampler" not in minimal
    assert b"S\0a\0m\0p" not in minimal


def test_a_request_too_long_for_jpeg_is_left_out_of_it_alone(tmp_path):
    said = picture_metadata(row(5, prompt="x" * 40_000), "infotext")
    data = {name: encode(pixels(5), spec, said).data for name, spec in FORMATS.items()}
    for name, content in data.items():
        path = tmp_path / f"{name}.{FORMATS[name].format}"
        path.write_bytes(content)
        assert (read_texts(path).infotext == "") == (name == "jpeg")
    assert b"trainedAlgorithmicMedia" in data["jpeg"]


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif", "jxl"])
def test_imported_pictures_of_every_format_are_their_rows(tmp_path, name):
    asked = [{"prompt": f"füchse {index}, <x> \U0001f98a", "seed": index} for index in range(3)]
    sdbatch.render(
        asked, str(tmp_path / "one"), model="fake", engine="inline", size="64x64",
        guidance_scale=7.1, image_format=name,
    )  # fmt: skip
    (path,) = tmp_path.glob("one/data/*.parquet")
    folder = tmp_path / "pictures"
    folder.mkdir()
    first = pq.read_table(path, columns=["key", "row_hash", "image"]).to_pylist()
    for each in first:
        (folder / each["image"]["path"]).write_bytes(each["image"]["bytes"])
    read = read_source(str(folder), str(tmp_path))
    write_manifest(tmp_path / "again.parquet", read.schema, read)
    second = rendered(str(tmp_path / "again.parquet"), tmp_path / "two")

    assert second["row_hash"].to_pylist() == [each["row_hash"] for each in first]

"""Every format: the same pixels come back where it promises so, near ones where it does not."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sdbatch.dataset import encoders, png_writer
from sdbatch.dataset.compare import difference
from sdbatch.dataset.encoders import FORMATS, demand_encoder, missing
from sdbatch.dataset.images import (
    decode,
    encode,
    fitted,
    keeps_pixels,
    picture_size,
    pixel_sha256,
)
from sdbatch.errors import DamagedError, JobError
from sdbatch.job import IMAGE_FORMATS
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.image_settings import RULES
from tests.dataset.kinds_of_pictures import KINDS

LOSSLESS = {
    "png": ImageSpec(),
    "fast png": ImageSpec(png_level="fast"),
    "webp": ImageSpec("webp", lossless=True),
    "jxl": ImageSpec("jxl", lossless=True),
}
LOSSY = {
    "jpeg": ImageSpec("jpeg", quality=90, chroma="444"),
    "webp": ImageSpec("webp", quality=90, chroma="420"),
    "avif": ImageSpec("avif", quality=75, chroma="444"),
    "jxl": ImageSpec("jxl", quality=90),
}
SIDE = st.integers(1, 24)
PICTURES = st.tuples(SIDE, SIDE, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))


def test_job_rules_and_encoders_know_the_same_formats():
    assert tuple(FORMATS) == IMAGE_FORMATS == tuple(RULES)


@given(PICTURES, st.sampled_from(sorted(LOSSLESS)))
def test_lossless_formats_give_every_pixel_back(pixels, name):
    encoded = encode(pixels, LOSSLESS[name])

    assert np.array_equal(decode(encoded.data), pixels)
    assert picture_size(encoded.data) == (encoded.width_px, encoded.height_px)
    assert encoded.pixel_sha256 == pixel_sha256(pixels)


@pytest.mark.parametrize("kind", ["texture f^-1.5", "lit, noise 1", "drawing", "blank"])
@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_stay_near(name, kind):
    pixels = KINDS[kind](96)
    encoded = encode(pixels, LOSSY[name])

    apart = difference(decode(encoded.data), pixels)
    assert apart.psnr_db >= (24 if kind == "drawing" else 31)
    assert encoded.pixel_sha256 == pixel_sha256(pixels)
    assert encoded.quality == encode(pixels, LOSSLESS["png"]).quality


@pytest.mark.parametrize("spec", [*LOSSLESS.values(), *LOSSY.values()])
def test_equal_pixels_give_equal_bytes(spec):
    pixels = KINDS["texture f^-1.25"](80)

    assert encode(pixels, spec) == encode(pixels.copy(), spec)


@pytest.mark.parametrize("name", LOSSY)
def test_higher_quality_is_larger_and_nearer(name):
    pixels = KINDS["texture f^-1.5"](128)
    found = []
    for quality in (20, 60, 95):
        spec = ImageSpec(name, quality=quality, chroma=LOSSY[name].chroma)
        data = encode(pixels, spec).data
        found.append((len(data), difference(decode(data), pixels).psnr_db))

    assert found == sorted(found)


@pytest.mark.parametrize("name", ["jpeg", "avif"])
def test_full_chroma_keeps_colour_that_thinned_chroma_loses(name):
    red = np.zeros((64, 64, 3), np.uint8)
    red[:, ::2, 0], red[:, 1::2, 2] = 255, 255
    psnr = [
        difference(
            decode(encode(red, ImageSpec(name, quality=90, chroma=chroma)).data), red
        ).psnr_db
        for chroma in ("420", "444")
    ]

    assert psnr[1] > psnr[0] + 6


def test_files_tell_whether_they_keep_pixels():
    pixels = KINDS["lit, noise 1"](40)
    said = {name: keeps_pixels(encode(pixels, spec).data) for name, spec in LOSSY.items()}

    assert not any(said.values())
    for name in ("png", "fast png", "webp"):
        assert keeps_pixels(encode(pixels, LOSSLESS[name]).data)


@given(PICTURES, SIDE, SIDE)
def test_the_saved_size_is_what_is_hashed_measured_and_stored(pixels, width, height):
    spec = ImageSpec(save_size=f"{width}x{height}")
    encoded = encode(pixels, spec)
    stored = decode(encoded.data)

    assert stored.shape == (height, width, 3) == (encoded.height_px, encoded.width_px, 3)
    assert np.array_equal(stored, fitted(pixels, spec))
    assert encoded.pixel_sha256 == pixel_sha256(stored)
    assert encoded.quality == encode(stored, ImageSpec()).quality
    if pixels.shape == stored.shape:
        assert np.array_equal(stored, pixels)


@pytest.mark.parametrize("spec", [*LOSSLESS.values(), *LOSSY.values()])
@pytest.mark.parametrize("kept", [0, 11, 60, 200])
def test_a_cut_off_picture_of_any_format_is_damage(spec, kept):
    data = encode(KINDS["texture f^-1.5"](64), spec).data

    with pytest.raises(DamagedError, match="picture 7: damaged"):
        decode(data[:kept], "picture 7")


def test_what_is_not_installed_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    monkeypatch.setattr(encoders.features, "check", lambda name: False)
    monkeypatch.setattr(png_writer, "AVAILABLE", False)

    with pytest.raises(JobError, match=r"image\.format: jxl: .*pip install 'sdbatch\[jxl\]'"):
        demand_encoder(ImageSpec("jxl", quality=90))
    with pytest.raises(JobError, match=r"image\.format: avif: .*pillow>=11\.3"):
        demand_encoder(ImageSpec("avif", quality=90))
    assert "isal" in missing(ImageSpec(png_level="fast"))
    assert not missing(ImageSpec())
    jxl = b"\xff\x0a" + bytes(40)
    with pytest.raises(DamagedError, match=r"JPEG XL, which needs pip install 'sdbatch\[jxl\]'"):
        decode(jxl)


def test_a_picture_in_jpeg_opens_without_us():
    data = encode(KINDS["blocks"](64), LOSSY["jpeg"]).data

    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))

"""Pixels survive their file, and equal pixels make equal files."""

import hashlib
import io
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sdbatch.dataset.images import decode, encode, pixel_sha256
from sdbatch.errors import DamagedError, JobError, RenderError
from sdbatch.output_specs import ImageSpec

SIDE = st.integers(1, 20)
PICTURES = st.tuples(SIDE, SIDE, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))


@given(PICTURES, st.integers(0, 9), st.integers(0, 4))
def test_png_gives_back_every_pixel_at_every_setting(pixels, level, strategy):
    encoded = encode(pixels, ImageSpec(png_level=level, png_strategy=strategy))

    assert np.array_equal(decode(encoded.data), pixels)
    assert (encoded.height_px, encoded.width_px) == pixels.shape[:2]


def test_hashes_are_of_the_file_and_of_the_raw_pixels():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    encoded = encode(pixels, ImageSpec())

    assert encoded.sha256 == hashlib.sha256(encoded.data).hexdigest()
    assert encoded.pixel_sha256 == hashlib.sha256(bytes(range(18))).hexdigest()


def test_the_layout_of_an_array_in_memory_changes_nothing():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    turned = np.asfortranarray(pixels)

    assert encode(turned, ImageSpec()) == encode(pixels, ImageSpec())
    assert pixel_sha256(turned[:, ::-1][:, ::-1]) == pixel_sha256(pixels)


def test_a_file_holds_nothing_but_the_picture():
    encoded = encode(np.zeros((5, 5, 3), np.uint8), ImageSpec())

    with Image.open(io.BytesIO(encoded.data)) as image:
        assert (image.format, image.mode, image.info) == ("PNG", "RGB", {})


def photo_like(side):
    """Smooth light, edges and sensor noise, as in a photograph."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:side, 0:side] / side
    light = 110 + 60 * np.sin(3 * x + 2 * y)[..., None] * [1.0, 0.8, 0.6]
    disc = ((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.08)[..., None] * [40, -20, 10]
    return np.clip(light + disc + rng.normal(0, 1, (side, side, 3)), 0, 255).astype(np.uint8)


def test_the_default_is_no_larger_than_pillows_and_at_least_twice_as_fast():
    pixels = photo_like(384)

    def cost(spec):
        times = []
        for _ in range(3):
            started = time.thread_time()
            size = len(encode(pixels, spec).data)
            times.append(time.thread_time() - started)
        return size, min(times)

    our_size, our_time = cost(ImageSpec())
    pillow_size, pillow_time = cost(ImageSpec(png_level=6, png_strategy=0))
    assert our_size <= pillow_size
    assert our_time <= 0.5 * pillow_time


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_rgb_picture_is_refused(pixels):
    with pytest.raises(RenderError, match="must be uint8"):
        encode(pixels, ImageSpec())


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(JobError, match=r"image\.format: 'bmp' is unknown, one of png"):
        encode(np.zeros((4, 4, 3), np.uint8), ImageSpec(format="bmp"))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_pictures_of_other_kinds_decode_to_rgb(mode):
    target = io.BytesIO()
    Image.new("RGB", (3, 2), "white").convert(mode).save(target, "PNG")

    assert np.array_equal(decode(target.getvalue()), np.full((2, 3, 3), 255))


@pytest.mark.parametrize("kept", [0, 10, 100, 400])
def test_a_cut_off_picture_is_damage(kept):
    data = encode(photo_like(16), ImageSpec()).data

    with pytest.raises(DamagedError, match="picture 7: damaged"):
        decode(data[:kept], "picture 7")

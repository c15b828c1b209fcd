"""Quality columns say what pixels are, and cost next to nothing."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sdbatch.dataset.images import encode
from sdbatch.dataset.quality import UNIFORM_LEVELS, Quality, dhash, quality_of, sharpness
from sdbatch.dataset.schema import dataset_schema
from sdbatch.output_specs import ImageSpec

SIDE = st.integers(1, 40)
PICTURES = st.tuples(SIDE, SIDE, st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


def measured(pixels):
    return quality_of(Image.fromarray(np.ascontiguousarray(pixels)))


def luma(pixels):
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))


@given(COLOURS, SIDE, SIDE)
def test_one_colour_is_blank_and_uniform_and_without_edges(colour, width, height):
    found = measured(np.full((height, width, 3), colour, np.uint8))

    assert (found.is_blank, found.is_uniform, found.sharpness) == (True, True, 0.0)
    assert found.dhash == "0" * 16
    assert abs(found.mean_luma - np.dot(colour, [0.299, 0.587, 0.114])) <= 0.51


@given(PICTURES)
def test_blank_is_exactly_one_colour(pixels):
    found = measured(pixels)

    assert found.is_blank == bool((pixels == pixels[0, 0]).all())
    assert found.is_uniform or not found.is_blank


@given(COLOURS, SIDE, SIDE, st.integers(0, 2**32))
def test_a_pixel_of_another_colour_is_not_blank(colour, width, height, place):
    assume(width * height > 1)
    pixels = np.full((height, width, 3), colour, np.uint8)
    pixels.reshape(-1)[place % pixels.size] ^= 1

    assert not measured(pixels).is_blank
    assert measured(pixels).is_uniform


@given(arrays(np.uint8, (20, 30, 3), elements=st.integers(0, UNIFORM_LEVELS - 1)), COLOURS)
def test_a_little_noise_is_uniform_whatever_the_colour(noise, colour):
    pixels = np.minimum(np.array(colour), 248).astype(np.uint8) + noise

    assert measured(pixels).is_uniform


def test_colours_of_equal_brightness_are_not_uniform():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20], pixels[20:] = (255, 0, 0), (0, 130, 0)

    assert len(np.unique(luma(pixels))) == 1
    assert not measured(pixels).is_uniform
    assert not measured(pixels).is_blank


@given(PICTURES)
def test_sharpness_is_the_variance_of_the_laplacian(pixels):
    grey = luma(pixels).astype(np.float64)
    inner = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    expected = (around - 4 * inner).var() if inner.size else 0.0

    assert sharpness(luma(pixels)) == pytest.approx(expected, rel=1e-5, abs=1e-4)


@given(st.tuples(st.integers(1, 300), st.integers(1, 9)).flatmap(lambda s: arrays(np.uint8, s)))
def test_sharpness_is_the_variance_of_whole_numbers_to_the_last_digit(grey):
    wide = grey.astype(object)  # Python's integers
    inner = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    edges = [int(each) for each in (inner - 4 * wide[1:-1, 1:-1]).ravel()]
    count, total, square = len(edges), sum(edges), sum(each * each for each in edges)
    exact = float(np.float32((square - total * total / count) / count)) if count else 0.0

    assert sharpness(grey) == exact


def test_blur_lowers_sharpness():
    from PIL import ImageFilter

    rng = np.random.default_rng(3)
    noisy = Image.fromarray(rng.integers(0, 256, (120, 90, 3), dtype=np.uint8))
    found = [
        quality_of(noisy.filter(ImageFilter.GaussianBlur(radius))).sharpness for radius in range(4)
    ]

    assert found == sorted(found, reverse=True)
    assert found[3] < 0.01 * found[0]


def test_the_difference_hash_compares_each_cell_with_its_right_neighbour():
    brighter = np.repeat(np.arange(0, 252, 28, dtype=np.uint8)[None], 8, 0)
    half = np.concatenate((brighter[:4], brighter[4:, ::-1]))

    assert dhash(Image.fromarray(brighter)) == "f" * 16
    assert dhash(Image.fromarray(brighter[:, ::-1].copy())) == "0" * 16
    assert dhash(Image.fromarray(half)) == "f" * 8 + "0" * 8


def test_a_smaller_or_brighter_copy_keeps_its_difference_hash():
    rng = np.random.default_rng(8)
    soft = Image.fromarray(rng.integers(30, 200, (12, 12, 3), dtype=np.uint8)).resize((480, 360))

    def bits(image):
        return int(quality_of(image).dhash, 16)

    small = soft.resize((96, 72))
    bright = Image.fromarray(np.asarray(soft) + np.uint8(40))
    other = Image.fromarray(np.asarray(soft)[:, ::-1].copy())
    assert (bits(soft) ^ bits(small)).bit_count() <= 3
    assert (bits(soft) ^ bits(bright)).bit_count() <= 3
    assert (bits(soft) ^ bits(other)).bit_count() >= 16


@given(PICTURES)
def test_columns_are_those_of_the_schema_and_survive_their_type(pixels):
    found = encode(pixels, ImageSpec()).quality.columns()
    schema = dataset_schema([])
    after = schema.names[schema.get_field_index("pixel_sha256") + 1 :]

    assert list(found) == after[: len(found)] == list(Quality.__dataclass_fields__)
    assert np.float32(found["mean_luma"]) == found["mean_luma"]
    assert np.float32(found["sharpness"]) == found["sharpness"]
    assert measured(pixels) == measured(pixels.copy())

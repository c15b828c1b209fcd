import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.dataset.images import encode
from sdbatch.manifest.shape import RowShape
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.estimate import (
    LOSSY_BYTES_PER_PX,
    PNG,
    bytes_per_px,
    estimate,
    image_bytes,
    smaller_formats,
)
from sdbatch.plan.sharding import cut_shards
from tests.dataset.kinds_of_pictures import KINDS

SHAPE = RowShape(
    3,
    ((64, 64), (128, 64)),
    np.array([0, 1, 0], np.int32),
    np.array([1, 2, 3], np.int16),
    1,
    None,
    9,
)


def test_bytes_add_up_over_sizes():
    whole = estimate(SHAPE, cut_shards(SHAPE))

    assert (whole.rows, whole.images, whole.shards) == (3, 6, 2)
    assert whole.size_bytes == 4 * image_bytes(64, 64) + 2 * image_bytes(128, 64)
    assert whole.files == 2 * 3 + 8


def test_time_is_unknown_until_it_was_measured():
    shards = cut_shards(SHAPE)

    assert estimate(SHAPE, shards).seconds is None
    assert estimate(SHAPE, shards, seconds_per_image=2.0, workers=4).seconds == 3.0


QUALITY = st.integers(1, 100)
LOSSY = st.sampled_from(sorted(LOSSY_BYTES_PER_PX))


@given(LOSSY, QUALITY, QUALITY)
def test_a_lower_quality_is_never_expected_to_need_more(name, first, second):
    low, high = sorted((first, second))
    sizes = [bytes_per_px(ImageSpec(name, quality=quality)) for quality in (low, high)]

    assert 0 < sizes[0] <= sizes[1] < bytes_per_px(PNG)


def test_a_saved_size_counts_and_not_the_drawn_one():
    small = ImageSpec(save_size="64x64")

    assert image_bytes(1024, 512, small) == image_bytes(64, 64)


def test_smaller_formats_are_smaller_and_none_is_named_twice():
    assert list(smaller_formats(PNG)) == [
        "--image-format webp --lossless",
        "--image-format webp",
        "--image-format jpeg --quality 75",
        "--image-format avif --quality 50",
    ]
    assert all(share < 0.95 for share in smaller_formats(PNG).values())
    assert smaller_formats(ImageSpec("avif", quality=30)) == {}


@pytest.mark.parametrize(
    "image",
    [PNG, ImageSpec("webp", lossless=True), ImageSpec("jxl", lossless=True)]
    + [ImageSpec(name, quality=q) for name in LOSSY_BYTES_PER_PX for q in (50, 75, 90)],
)
def test_estimates_are_of_the_right_size_for_textured_pictures(image):
    spec = replace(image, chroma="420") if image.format in ("jpeg", "avif") else image
    found = [
        len(encode(KINDS[kind](256), spec).data) / 256**2
        for kind in ("texture f^-1.25", "texture f^-1.5", "lit, noise 1")
    ]

    assert bytes_per_px(image) / 4 < statistics.mean(found) < 4 * bytes_per_px(image)

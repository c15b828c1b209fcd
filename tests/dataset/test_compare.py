"""Two pictures that should be one: the numbers, and the panels."""

import math

import numpy as np
import pytest

from sdbatch.dataset.compare import comparison, difference

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 250, (16, 24, 3), dtype=np.uint8)


def test_equal_pictures_are_infinitely_alike():
    apart = difference(PIXELS, PIXELS.copy())

    assert (apart.psnr_db, apart.largest, apart.share) == (math.inf, 0, 0.0)


def test_a_difference_of_one_everywhere_is_48_db():
    apart = difference(PIXELS, PIXELS + np.uint8(1))

    assert apart.psnr_db == pytest.approx(20 * math.log10(255))
    assert (apart.largest, apart.share) == (1, 1.0)


def test_dark_against_bright_does_not_wrap_around():
    dark, bright = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)

    assert difference(dark, bright) == difference(bright, dark)
    assert difference(dark, bright).psnr_db == 0
    assert difference(dark, bright).largest == 255


def test_pictures_of_two_sizes_have_no_difference_in_numbers():
    assert difference(PIXELS, PIXELS[:8]) is None
    assert comparison(PIXELS, PIXELS[:8]).width > 2 * 24


def test_the_panels_hold_both_pictures_and_a_difference_that_can_be_seen():
    other = PIXELS.copy()
    other[5, 7, 2] += 3
    sheet = np.asarray(comparison(PIXELS, other))
    enlarged = np.repeat(np.repeat(PIXELS, 13, axis=0), 13, axis=1)
    height, width, _ = enlarged.shape

    places = [28 + index * (width + 20) for index in range(3)]
    panels = [sheet[28 : 28 + height, left : left + width] for left in places]

    assert np.array_equal(panels[0], enlarged)
    assert np.array_equal(panels[1][::13, ::13], other)
    assert panels[2].max() == 255
    assert np.argwhere(panels[2][::13, ::13]).tolist() == [[5, 7, 2]]

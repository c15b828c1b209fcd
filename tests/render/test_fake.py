"""The fake renderer keeps the contract of the real one, without torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import numpy as np
import pytest

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.fake import Painted, fake_fails, fake_pixels, read_fake
from sdbatch.render.loading import load_renderer
from sdbatch.results import RowFailure
from tests.render.drawing import make_row, pictures


def load(name="fake:", **lanes):
    return load_renderer(RenderSpec("fake", name, "", "auto", lanes, 1), [(32, 32)])


def test_every_row_comes_back_with_its_own_picture():
    rows = [make_row(i) for i in range(20)]

    drawn = pictures(load().render(rows))

    assert all(np.array_equal(drawn[row.row_index], fake_pixels(row)) for row in rows)


@pytest.mark.parametrize(
    "changes", [{"row_index": 9}, {"image_index": 1}, {"seed": 5}, {"row_hash": "ab"}]
)
def test_a_picture_tells_rows_apart(changes):
    row = make_row(0)

    assert not np.array_equal(fake_pixels(row), fake_pixels(dataclasses.replace(row, **changes)))


@pytest.mark.parametrize("size", [(64, 64), (8, 8), (512, 256)])
def test_a_picture_has_the_size_of_its_row(size):
    pixels = fake_pixels(make_row(0, width_px=size[0], height_px=size[1]))

    assert pixels.shape == (size[1], size[0], 3)
    assert pixels.dtype == np.uint8


def test_a_share_of_the_rows_fails_the_same_ones_every_time():
    rows = [make_row(i) for i in range(400)]

    results = list(load("fake:fail=0.25").render(rows))

    failed = {r.row.row_index for r in results if isinstance(r, RowFailure)}
    assert failed == {row.row_index for row in rows if fake_fails(row, 0.25)}
    assert 60 < len(failed) < 140
    assert len(results) == 400


def test_none_means_that_no_row_is_there_yet():
    def feed():
        yield make_row(0)
        yield None
        yield None
        yield make_row(1)

    assert sorted(pictures(load().render(feed()))) == [0, 1]


def test_a_slow_fake_is_slow():
    started = time.perf_counter()

    list(load("fake:ms=20").render([make_row(i) for i in range(3)]))

    assert time.perf_counter() - started >= 0.06


def test_lanes_come_from_the_options_or_the_plan():
    assert load("fake:lanes=3").lanes == {"32x32": 3}
    assert load("fake:lanes=3", **{"32x32": 5}).lanes == {"32x32": 5}


@pytest.mark.parametrize("name", ["fake:msec=3", "fake:ms=fast", "fake:lanes=0"])
def test_a_wrong_option_is_refused(name):
    with pytest.raises(ModelError, match="model fake:"):
        load(name)


def test_loading_a_fake_imports_no_torch():
    code = (
        "import sys\n"
        "from sdbatch.records import RenderSpec\n"
        "from sdbatch.render.loading import load_renderer\n"
        "load_renderer(RenderSpec('fake', 'fake:', '', 'auto', {}, 1), [(64, 64)])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shares_of_black_and_of_equal_pictures_add_up():
    rows = [make_row(i) for i in range(400)]

    results = list(load("fake:black=0.25,same=0.25").render(rows))

    black = [r for r in results if isinstance(r, RowFailure)]
    drawn = [r for r in results if not isinstance(r, RowFailure)]
    own = [r for r in drawn if np.array_equal(r.pixels, fake_pixels(r.row))]
    others = [r.pixels for r in drawn if not np.array_equal(r.pixels, fake_pixels(r.row))]
    assert {failure.error_type for failure in black} == {"BlackImageError"}
    assert 60 < len(black) < 140
    assert 60 < len(others) < 140
    assert len(own) > 140
    assert all(np.array_equal(pixels, others[0]) for pixels in others)


@pytest.mark.parametrize("size", [(64, 8), (64, 64), (512, 256), (72, 88)])
@pytest.mark.parametrize("row_hash", ["0123456789abcdef" * 4, "f" * 64, "ab", ""])
def test_a_picture_says_whose_it_is(size, row_hash):
    row = make_row(7, width_px=size[0], height_px=size[1], seed=2**32 - 1, row_hash=row_hash)

    painted = read_fake(fake_pixels(row))

    assert painted == Painted.of(7, row.image_index, 2**32 - 1, row_hash)
    assert painted != Painted.of(7, row.image_index, 2**32 - 1, "123")


def test_a_picture_too_small_for_its_bits_is_not_read():
    with pytest.raises(ValueError, match="32x32 cannot be read"):
        read_fake(fake_pixels(make_row(0, width_px=32, height_px=32)))

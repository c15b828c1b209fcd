"""What a trace measures: how soon coarse, middle and fine parts are decided."""

import numpy as np
import pytest

from sdbatch import api
from sdbatch.engine.trace import decided

RNG = np.random.default_rng(0)


def waves(cycles, side=64):
    """A grey picture of upright waves, so many across."""
    line = 128 + 100 * np.sin(2 * np.pi * cycles * np.arange(side) / side)
    return np.repeat(np.tile(line, (side, 1))[:, :, None], 3, axis=2).round().astype(np.uint8)


def test_a_picture_is_wholly_decided_in_itself():
    noise = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)

    assert decided(noise, noise) == pytest.approx((1.0, 1.0, 1.0))


@pytest.mark.parametrize(("cycles", "band"), [(2, 0), (8, 1), (24, 2)])
def test_waves_of_one_length_are_decided_in_their_own_band(cycles, band):
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    both = ((noise.astype(float) + 3 * waves(cycles).astype(float)) / 4).round().astype(np.uint8)

    shares = decided(waves(cycles), both)

    assert shares[band] > 0.9
    assert max(share for index, share in enumerate(shares) if index != band) < 0.5


def test_strength_is_not_asked_for_but_direction_is():
    whole = waves(2)
    faint = (128 + (whole.astype(float) - 128) / 4).round().astype(np.uint8)

    assert decided(faint, whole)[0] > 0.99
    assert decided(255 - whole, whole)[0] == 0.0


def test_an_even_picture_decides_nothing_and_divides_by_nothing():
    even = np.full((8, 8, 3), 7, np.uint8)

    assert decided(even, even) == (0.0, 0.0, 0.0)


@pytest.mark.render
def test_coarse_parts_are_decided_before_fine_ones(tmp_path):
    traced = api.trace(
        "a large red circle on a white background", seed=7, out=tmp_path / "s.png", frames=12
    )
    half = [frame.decided for frame in traced.frames if frame.noise > 0.5]

    means = {band: np.mean([shares[band] for shares in half]) for band in half[0]}
    assert len(half) > 4
    assert means["coarse"] > 1.5 * means["fine"]
    assert means["coarse"] > means["middle"] > means["fine"]
    assert all(share > 0.99 for share in traced.frames[-1].decided.values())

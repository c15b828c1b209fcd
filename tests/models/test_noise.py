"""What a cell of a latent counts in the loss."""

from __future__ import annotations

import pytest
import torch

from sdbatch.models.noise import THINGS_SHARE, cell_weights


def scene(side):
    """A plain background with a square thing of `side` cells on it."""
    latents = torch.full((1, 4, 16, 16), 0.3)
    latents[:, :, 2 : 2 + side, 2 : 2 + side] = -1.0
    return latents


@pytest.mark.parametrize("side", [6, 8, 11])
def test_things_weigh_the_same_in_all_whatever_their_size(side):
    weights = cell_weights(scene(side))
    things = weights[:, :, 2 : 2 + side, 2 : 2 + side]

    background = (1 - THINGS_SHARE) * side**2 / 256
    assert float(things.sum()) / 256 == pytest.approx(THINGS_SHARE + background)
    assert float(weights.mean()) == pytest.approx(1)


def test_a_tiny_thing_weighs_no_cell_without_bound():
    assert float(cell_weights(scene(1)).max()) == pytest.approx(1 + 9 * THINGS_SHARE)


def test_a_picture_of_nothing_counts_evenly():
    weights = cell_weights(torch.zeros(2, 4, 16, 16))

    assert torch.equal(weights, torch.full((2, 1, 16, 16), 1 - THINGS_SHARE))

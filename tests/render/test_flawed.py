"""What is no picture fails its row with the reason; what is a dull one does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdbatch import errors
from sdbatch.render.flawed import flawed
from sdbatch.results import RenderedImage
from tests.render.drawing import make_row

BLACK = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "name", "text"),
    [(None, "NonFiniteError", "NaN"), (BLACK, "BlackImageError", "every pixel is black")],
)
def test_the_reason_is_said_by_an_error_of_the_tree(pixels, name, text):
    failure = flawed(make_row(3), pixels)

    assert failure.error_type == name
    assert text in failure.error_message
    assert issubclass(getattr(errors, name), errors.RenderError)
    assert failure.row.row_index == 3


class Decoder:
    """A decoder that gives every picture of a chunk one value of its own."""

    scale = 4

    def __init__(self, values):
        self._values = values

    def decode(self, latents):
        size = (3, latents.shape[2] * 4, latents.shape[3] * 4)
        filled = [*self._values, *[0.0] * (len(latents) - len(self._values))]
        return torch.stack([torch.full(size, value) for value in filled])


@pytest.mark.render
def test_black_and_nan_pictures_fail_alone_and_dull_ones_are_kept(renderer, monkeypatch):
    values = [-3.0, float("nan"), 1.0, -0.99, 0.0]
    monkeypatch.setattr(renderer.image_decoder, "_model", Decoder(values))
    rows = [make_row(i, guidance_scale=1.0) for i in range(5)]
    monkeypatch.setattr(renderer, "lanes", {"32x32": 5})

    results = {result.row.row_index: result for result in renderer.render(rows)}

    assert results[0].error_type == "BlackImageError"
    assert results[1].error_type == "NonFiniteError"
    assert [type(results[i]) for i in (2, 3, 4)] == [RenderedImage] * 3
    assert results[3].pixels.max() == 1


@pytest.mark.render
def test_a_picture_that_is_black_on_purpose_is_not_all_black(renderer):
    rows = [make_row(i, prompt="a black square on black") for i in range(4)]

    results = list(renderer.render(rows))

    assert all(isinstance(result, RenderedImage) for result in results)

"""Latents become the pixels diffusers makes, whatever is decoded beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from sdbatch.render.image_decoder import chunk_size


@pytest.mark.parametrize(
    ("size", "chunk"), [((64, 64), 8), ((512, 512), 4), ((1024, 1024), 1), ((2048, 1024), 1)]
)
def test_a_chunk_is_bounded_in_pixels(size, chunk):
    assert chunk_size(*size) == chunk


@pytest.mark.render
def test_a_picture_does_not_depend_on_its_place_or_neighbours(renderer):
    latents = [torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(8)]
    wanted = renderer.image_decoder.decode(latents).pixels()

    for first, last in ((0, 1), (3, 5), (2, 8)):
        some = renderer.image_decoder.decode(latents[first:last]).pixels()
        assert all(np.array_equal(a, b) for a, b in zip(some, wanted[first:last], strict=True))


@pytest.mark.render
def test_pixels_are_those_of_diffusers_own_postprocessing(renderer):
    latents = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    vae = renderer.image_decoder._model.vae
    with torch.inference_mode():
        images = vae.decode(latents / vae.config.scaling_factor).sample
    wanted = VaeImageProcessor().postprocess(images, output_type="np")

    pixels = renderer.image_decoder.decode(list(latents)).pixels()

    assert np.array_equal(np.stack(pixels), (wanted * 255).round().astype(np.uint8))


@pytest.mark.render
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_picture_that_is_not_finite_is_no_picture(renderer, value):
    latents = [torch.zeros(4, 8, 8), torch.full((4, 8, 8), value)]

    good, bad = renderer.image_decoder.decode(latents).pixels()

    assert good is not None
    assert good.shape == (32, 32, 3)
    assert good.dtype == np.uint8
    assert bad is None

"""The pipeline beside us draws the same pictures, so that times can be compared."""

import numpy as np
import pytest
import torch

from sdbatch.model_specs import RenderSpec
from sdbatch.render.architecture import find_architecture
from sdbatch.render.plain_pipeline import PlainPipeline
from sdbatch.render.random_model import load_random
from tests.render.drawing import make_row, pictures

pytestmark = pytest.mark.render
CLOSE = 2


@pytest.fixture
def plain(renderer):
    return PlainPipeline(renderer, find_architecture("shapes").scheduler, 1)


@pytest.mark.parametrize("at_once", [1, 4])
def test_it_draws_what_the_renderer_draws(renderer, plain, at_once):
    rows = [
        make_row(0),
        make_row(1, scheduler="EulerDiscreteScheduler", num_inference_steps=4),
        make_row(2, guidance_scale=1.0),
        make_row(3),
    ]
    ours = pictures(renderer.render(rows))
    theirs = plain.draw(rows, at_once)

    assert len(theirs) == len(rows)
    for picture in ours.values():
        nearest = min(np.abs(picture.astype(int) - other).max() for other in theirs)
        assert nearest <= CLOSE


def test_it_runs_with_settings_of_torch_and_leaves_exact_ones_behind(plain, monkeypatch):
    seen = []
    real = plain._call
    monkeypatch.setattr(
        plain,
        "_call",
        lambda *args: seen.append(torch.are_deterministic_algorithms_enabled()) or real(*args),
    )
    plain.draw([make_row(0, num_inference_steps=1)], 1)

    assert seen == [False]
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic


def test_it_takes_random_weights_and_random_tokens_too():
    spec = RenderSpec("shapes", "", "", "float32", {"32x32": 4}, 1)
    architecture = find_architecture("shapes")
    renderer = load_random(spec, architecture)
    drawn = PlainPipeline(renderer, architecture.scheduler, 1).draw([make_row(0)], 1)

    assert np.abs(drawn[0].astype(int) - pictures(renderer.render([make_row(0)]))[0]).max() <= CLOSE


def test_a_decoder_of_another_number_type_is_copied_in_that_of_the_denoiser():
    spec = RenderSpec("shapes", "", "", "float32", {"32x32": 4}, 1)
    architecture = find_architecture("shapes")
    renderer = load_random(spec, architecture)
    vae = renderer.components["vae"].to(torch.bfloat16)
    (drawn,) = PlainPipeline(renderer, architecture.scheduler, 1).draw([make_row(0)], 1)

    assert drawn.shape == (32, 32, 3)
    assert vae.dtype == torch.bfloat16

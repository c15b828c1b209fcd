"""One row looked at from noise to picture, and the run that it must not differ from."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from sdbatch.errors import NonFiniteError, RenderError
from sdbatch.render import trace as trace_module
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.trace import trace_row
from sdbatch.results import RenderedImage
from tests.render.drawing import make_row, pictures

pytestmark = pytest.mark.render

TOLD = [
    "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LCMScheduler",
    "UniPCMultistepScheduler", "PNDMScheduler",
]  # fmt: skip


@pytest.mark.parametrize("scheduler", [*TOLD, "IPNDMScheduler"])
def test_the_last_picture_is_the_one_a_run_gives_among_others(renderer, scheduler):
    row = make_row(0, scheduler=scheduler, num_inference_steps=4)
    others = [make_row(i) for i in range(1, 4)]

    traced = trace_row(renderer, row, 3)

    assert np.array_equal(traced.picture, pictures(renderer.render([*others, row]))[0])
    assert traced.num_lanes == 4


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_the_row_is_told_from_padding_whatever_the_lane_count(load, lanes):
    narrow = load(p32x32=lanes)
    row = make_row(0)

    traced = trace_row(narrow, row, 3)

    assert traced.steps == 3
    assert np.array_equal(traced.picture, pictures(narrow.render([row]))[0])
    # Lane counts move results in the last bits only: a wrong lane would show at once.
    wide = trace_row(load(p32x32=4), row, 3)
    for ours, theirs in zip(traced.moments, wide.moments, strict=True):
        assert np.abs(ours.predicted.astype(int) - theirs.predicted).max() <= 2


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_what_is_foreseen_is_what_diffusers_foresees(renderer, guidance):
    row = make_row(0, guidance_scale=guidance, num_inference_steps=5)
    kept = []

    class Watching(DDIMScheduler):
        def step(self, *args, **kwargs):
            found = super().step(*args, **{**kwargs, "return_dict": True})
            kept.append(found.pred_original_sample)
            return (found.prev_sample,)

    traced = trace_row(renderer, row, 5)
    setting = renderer.setting_of(row)
    scheduler = Watching.from_config(dict(setting.config))
    scheduler.set_timesteps(5)
    walk_plainly(renderer, row, scheduler)

    for moment, latents in zip(traced.moments, kept, strict=True):
        (theirs,) = renderer.image_decoder.decode([latents[0]]).pixels()
        assert np.abs(moment.predicted.astype(int) - theirs).max() <= 1


def walk_plainly(renderer, row, scheduler):
    """The loop of diffusers' pipeline over the same model."""
    prompts = [row.negative_prompt, row.prompt]
    embeds = torch.stack([each.embeds for each in renderer.text_encoder.encode(prompts)])
    unet = renderer.rooms[1]
    generator = torch.Generator().manual_seed(row.seed)
    cells = (row.height_px // 4, row.width_px // 4)
    x = torch.randn((1, unet.channels, *cells), generator=generator)
    with torch.inference_mode():
        for t in scheduler.timesteps:
            output = unet.predict(LaneInputs(x.repeat(2, 1, 1, 1), t.float().repeat(2), embeds))
            guided = output[:1] + row.guidance_scale * (output[1:] - output[:1])
            used = guided if row.guided else output[1:]
            (x,) = scheduler.step(used, t, x, eta=0.0)


def test_noise_fades_from_all_to_little_and_calls_are_spread_evenly(renderer):
    traced = trace_row(renderer, make_row(0, num_inference_steps=20), 5)

    noise = [moment.noise for moment in traced.moments]
    assert [moment.step for moment in traced.moments] == [0, 5, 10, 14, 19]
    assert noise == sorted(noise, reverse=True)
    assert noise[0] > 0.99
    assert noise[-1] < 0.05


def test_a_row_of_few_steps_shows_each_call_once(renderer):
    traced = trace_row(renderer, make_row(0, num_inference_steps=2), 8)

    assert [moment.step for moment in traced.moments] == [0, 1]
    assert traced.steps == 2
    assert len(trace_row(renderer, make_row(0), 1).moments) == 1


def test_a_scheduler_that_does_not_tell_shows_latents_only(renderer):
    traced = trace_row(renderer, make_row(0, scheduler="IPNDMScheduler"), 3)

    assert [moment.predicted for moment in traced.moments] == [None] * 3
    assert [moment.noise for moment in traced.moments] == [None] * 3
    assert all(moment.seen.shape == (32, 32, 3) for moment in traced.moments)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow_prediction"])
def test_whatever_a_model_predicts_the_picture_is_found_in_it(kind):
    picture, noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    kept = 0.3
    s, n = (kept, 1 - kept) if "flow" in kind else (kept**0.5, (1 - kept) ** 0.5)
    said = {
        "epsilon": noise,
        "v_prediction": s * noise - n * picture,
        "sample": picture,
        "flow_prediction": noise - picture,
    }[kind]

    call = trace_module._Call(500.0, s * picture + n * noise, said)

    mix = trace_module._Mix(1 - kept, s, n, kind)
    assert torch.allclose(trace_module._foreseen(call, mix), picture)


def test_a_row_that_cannot_be_drawn_says_why(renderer):
    with pytest.raises(RenderError, match="cannot be drawn: InputError: scheduler: diffusers has"):
        trace_row(renderer, make_row(0, scheduler="NoScheduler"), 3)


def test_numbers_that_are_not_finite_are_an_error_and_no_picture(load, monkeypatch):
    fresh = load(p32x32=4)
    unet = type(fresh.rooms[1])
    real = unet.predict
    monkeypatch.setattr(unet, "predict", lambda *args: real(*args) * float("nan"))

    with pytest.raises(NonFiniteError):
        trace_row(fresh, make_row(0), 3)


def test_a_trace_leaves_nothing_behind_in_the_renderer(renderer):
    before = pictures(renderer.render([make_row(1)]))[1]
    trace_row(renderer, make_row(0), 3)
    (after,) = renderer.render([make_row(1)])

    assert isinstance(after, RenderedImage)
    assert np.array_equal(before, after.pixels)

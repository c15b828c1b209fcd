"""Stable Diffusion 3: rows of many settings in one batch, each as its own pipeline draws it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch

from sdbatch import api
from sdbatch.errors import InputError, ModelError
from sdbatch.model_specs import RenderSpec, Speed
from sdbatch.plan.facts import schedulers_of
from sdbatch.render.diffusers_folder import load_folder
from sdbatch.render.schedulers import scheduler_setting
from sdbatch.render.trace import trace_row
from sdbatch.render.weights.model_facts import find_model
from tests.render.drawing import latents_of, make_row, pictures, relative_error
from tests.render.tiny_models import save_sd3

pytestmark = pytest.mark.render

LANES = 4
EULER = "FlowMatchEulerDiscreteScheduler"
FLOW_SIGMAS = '{"flow_shift":3.0,"prediction_type":"flow_prediction","use_flow_sigmas":true}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_sd3(tmp_path_factory.mktemp("sd3") / "tiny")


@pytest.fixture(scope="module")
def sd3(folder):
    return load(folder)


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline_of(folder)


def load(folder):
    lanes = {"32x32": LANES, "48x32": LANES}
    return load_folder(RenderSpec("tiny", str(folder), "", "float32", lanes, 1))


def pipeline_of(folder, **parts):
    kind = diffusers.StableDiffusion3Pipeline
    made = kind.from_pretrained(folder, dtype=torch.float32, **parts)
    made.set_progress_bar_config(disable=True)
    made.own_config = dict(made.scheduler.config)
    return made


def call(pipe, row, output_type):
    """The pipeline's own output for one row: latents `[C, h, w]` or pixels `[H, W, 3]`."""
    overrides = json.loads(row.scheduler_config or "{}")
    setting = scheduler_setting(row.scheduler, pipe.own_config, overrides, row.num_inference_steps)
    pipe.scheduler = getattr(diffusers, row.scheduler).from_config(dict(setting.config))
    found = pipe(
        row.prompt,
        negative_prompt=row.negative_prompt or None,
        width=row.width_px,
        height=row.height_px,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        generator=torch.Generator().manual_seed(row.seed),
        output_type=output_type,
    ).images[0]
    return found if output_type == "latent" else (found * 255).round().astype(int)


def row(index, **changes):
    return make_row(index, **{"scheduler": EULER} | changes)


ROWS = [
    row(0, num_inference_steps=5),
    row(1, scheduler="DPMSolverMultistepScheduler", scheduler_config=FLOW_SIGMAS),
    row(2, scheduler="UniPCMultistepScheduler", scheduler_config=FLOW_SIGMAS),
    row(3, scheduler="FlowMatchHeunDiscreteScheduler", guidance_scale=1.0),
    row(4, scheduler_config='{"use_karras_sigmas":true}', negative_prompt="a blue square"),
    row(5, scheduler_config='{"use_exponential_sigmas":true}', guidance_scale=7.5, seed=9),
    row(6, scheduler_config='{"use_beta_sigmas":true}', num_inference_steps=4),
    row(7, scheduler_config='{"use_dynamic_shifting":true,"max_shift":2.0}'),
]
WIDE = [replace(one, row_index=10 + i, width_px=48) for i, one in enumerate(ROWS)]


@pytest.mark.parametrize("rows", [ROWS, WIDE])
def test_latents_are_those_of_its_own_pipeline(pipe, sd3, rows):
    found = latents_of(sd3, rows, LANES)

    for one in rows:
        assert relative_error(found[one.row_index], call(pipe, one, "latent")) < 1e-4


def test_pictures_of_mixed_sizes_are_those_of_its_own_pipeline(pipe, sd3):
    rows = [one for pair in zip(ROWS[:5], WIDE[:5], strict=True) for one in pair]
    found = pictures(sd3.render(rows))

    for one in rows:
        expected = call(pipe, one, "np")
        assert expected.std() > 2
        assert (np.abs(found[one.row_index] - expected) <= 1).mean() >= 0.999


def test_a_row_is_bit_equal_whatever_its_neighbours(sd3):
    rows = [ROWS[0], *WIDE, *ROWS[1:]]
    wanted, found = pictures(sd3.render(rows)), pictures(sd3.render(rows[::-1]))

    assert all(np.array_equal(found[index], wanted[index]) for index in wanted)


def test_every_scheduler_of_flows_is_a_table(sd3):
    assert all(sd3.kind_of(one)[1] is None for one in ROWS)


@pytest.mark.parametrize("one", ROWS, ids=lambda one: f"{one.row_index} {one.scheduler}")
def test_a_trace_says_the_picture_that_the_flow_leads_to(sd3, one):
    traced = trace_row(sd3, one, 99)

    assert np.array_equal(traced.picture, pictures(sd3.render([one]))[one.row_index])
    noise = [moment.noise for moment in traced.moments]
    assert noise == sorted(noise, reverse=True)
    assert noise[0] > 0.99
    last = traced.moments[-1]  # to foresee from here is to take the last step
    if "Heun" not in one.scheduler:
        assert np.abs(last.predicted.astype(int) - traced.picture).max() <= 1


def test_a_solver_of_both_kinds_is_one_of_flows_here(pipe, sd3):
    bare = replace(ROWS[1], scheduler_config="")
    told = replace(ROWS[1], row_index=5)
    found = latents_of(sd3, [bare, told], LANES)

    assert torch.equal(found[1], found[5])


def test_schedulers_that_are_made_for_noise_are_refused_in_a_plan(folder):
    drawable, unfit = schedulers_of(find_model(str(folder)))

    assert {EULER, "FlowMatchHeunDiscreteScheduler", "UniPCMultistepScheduler"} < drawable
    assert not {"DDIMScheduler", "LTXEulerAncestralRFScheduler"} & drawable
    assert "a flow's velocity" in unfit["DDIMScheduler"]


def test_without_t5_its_tokens_are_zeros(tmp_path):
    folder = save_sd3(tmp_path / "no-t5", with_t5=False)
    assert find_model(str(folder)).pipeline_class == "StableDiffusion3Pipeline"
    model = load(folder)
    pipe = pipeline_of(folder, tokenizer_3=None, text_encoder_3=None)

    found = latents_of(model, ROWS[:2], LANES)

    for one in ROWS[:2]:
        assert relative_error(found[one.row_index], call(pipe, one, "latent")) < 1e-4


def test_a_prompt_is_cut_where_t5_ends_and_where_there_is_none_where_clip_does(sd3, tmp_path):
    alone = load(save_sd3(tmp_path / "no-t5", with_t5=False))
    texts = ["a circle", "a red circle " * 12, "a red circle " * 40]

    found = [[one.truncated for one in model.text_encoder.encode(texts)] for model in (sd3, alone)]

    assert found == [[False, False, True], [False, True, True]]


def test_its_facts_come_from_its_configurations(folder):
    facts = find_model(str(folder))

    assert facts.size_multiple_px == 16
    assert (facts.defaults.width, facts.defaults.height) == (32, 32)
    assert (facts.defaults.num_inference_steps, facts.defaults.guidance_scale) == (28, 7.0)
    assert facts.defaults.scheduler == EULER
    assert facts.defaults.true_cfg_scale is None


@pytest.mark.parametrize("part", ["tokenizer_2", "text_encoder_3", "transformer"])
def test_a_missing_part_is_refused_in_one_line(folder, tmp_path, part):
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.rmtree(other / part)

    with pytest.raises(ModelError, match=rf"the folder has no {part}/$"):
        find_model(str(other))


def test_a_dual_attention_cannot_be_fused_and_is_not_tried(folder):
    speed = Speed(fuse_qkv=True)

    with pytest.raises(ModelError, match=r"render.fuse_qkv: .*dual attention"):
        load_folder(RenderSpec("tiny", str(folder), "", "float32", {}, 1, speed=speed))


def test_weighted_prompts_are_refused_with_a_reason(sd3):
    (found,) = list(sd3.render([row(0, prompt="a (red:1.2) circle", prompt_syntax="a1111")]))

    assert "reads plain prompts only" in found.error_message


def test_a_side_that_its_positions_do_not_reach_is_refused_in_a_plan(folder, tmp_path):
    facts = find_model(str(folder))
    asked = {"model": str(folder), "engine": "inline"}
    most = 24 * 2 * 2  # positions, cells of a token, pixels of a cell

    assert facts.max_size_px == most
    assert api.plan([{"prompt": "a", "width": most}], tmp_path / "out", **asked).images == 1
    for rows, more in (
        ([{"prompt": "a", "height": most + 16}], {}),
        (["a"], {"size": f"{most + 16}x32"}),
    ):
        with pytest.raises(InputError, match=rf"must be a multiple of 16 from 16 to {most}"):
            api.plan(rows, tmp_path / "out", **asked, **more)

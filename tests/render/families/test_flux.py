"""Flux: rows of many settings in one batch, each as its own pipeline draws it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.diffusers_folder import load_folder
from sdbatch.render.families.flux import FEW_TOKENS, T5_TOKENS, pack, unpack
from sdbatch.render.prompt_length import prompt_lengths
from sdbatch.render.schedulers import scheduler_setting
from sdbatch.render.weights.model_facts import find_model
from tests.render.drawing import latents_of, make_row, pictures, relative_error
from tests.render.tiny_models import save_flux

pytestmark = pytest.mark.render

LANES = 4
EULER = "FlowMatchEulerDiscreteScheduler"
FLOW_SIGMAS = (
    '{"flow_shift":3.0,"prediction_type":"flow_prediction","use_dynamic_shifting":true,'
    '"time_shift_type":"exponential","use_flow_sigmas":true}'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_flux(tmp_path_factory.mktemp("flux") / "tiny")


@pytest.fixture(scope="module")
def schnell_folder(tmp_path_factory):
    return save_flux(tmp_path_factory.mktemp("flux") / "few", guidance=False)


@pytest.fixture(scope="module")
def flux(folder):
    return load(folder)


@pytest.fixture(scope="module")
def pipe(folder):
    return pipeline_of(folder)


def load(folder):
    lanes = {"32x32": LANES, "48x32": LANES}
    return load_folder(RenderSpec("tiny", str(folder), "", "float32", lanes, 1))


def pipeline_of(folder):
    made = diffusers.FluxPipeline.from_pretrained(folder, dtype=torch.float32)
    made.set_progress_bar_config(disable=True)
    made.own_config = dict(made.scheduler.config)
    return made


def call(pipe, row, output_type, **options):
    """The pipeline's own output for one row: latents `[C, h, w]` or pixels `[H, W, 3]`."""
    overrides = json.loads(row.scheduler_config or "{}")
    setting = scheduler_setting(row.scheduler, pipe.own_config, overrides, row.num_inference_steps)
    pipe.scheduler = getattr(diffusers, row.scheduler).from_config(dict(setting.config))
    found = pipe(
        row.prompt,
        negative_prompt=row.negative_prompt,
        true_cfg_scale=row.true_cfg_scale,
        width=row.width_px,
        height=row.height_px,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        generator=torch.Generator().manual_seed(row.seed),
        output_type=output_type,
        **options,
    ).images[0]
    if output_type == "latent":
        return unpack(found[None], row.height_px // 4, row.width_px // 4)[0]
    return (found * 255).round().astype(int)


def row(index, **changes):
    return make_row(index, **{"scheduler": EULER, "true_cfg_scale": 1.0} | changes)


ROWS = [
    row(0, num_inference_steps=5),
    row(1, scheduler="DPMSolverMultistepScheduler", scheduler_config=FLOW_SIGMAS),
    row(2, scheduler="UniPCMultistepScheduler", scheduler_config=FLOW_SIGMAS),
    row(3, true_cfg_scale=4.0, guidance_scale=1.5, negative_prompt="a blue square"),
    row(4, true_cfg_scale=2.5, negative_prompt=""),
    row(5, scheduler_config='{"use_karras_sigmas":true}', guidance_scale=9.0),
    row(6, scheduler_config='{"shift":2.0,"use_dynamic_shifting":false}', seed=8),
    row(7, scheduler_config='{"base_shift":0.9,"max_shift":3.0}', num_inference_steps=4),
]
WIDE = [replace(one, row_index=10 + i, width_px=48) for i, one in enumerate(ROWS)]


@pytest.mark.parametrize("rows", [ROWS, WIDE])
def test_latents_are_those_of_its_own_pipeline(pipe, flux, rows):
    found = latents_of(flux, rows, LANES)

    for one in rows:
        assert relative_error(found[one.row_index], call(pipe, one, "latent")) < 1e-4


def test_pictures_of_mixed_sizes_are_those_of_its_own_pipeline(pipe, flux):
    rows = [one for pair in zip(ROWS[:5], WIDE[:5], strict=True) for one in pair]
    found = pictures(flux.render(rows))

    for one in rows:
        expected = call(pipe, one, "np")
        assert expected.std() > 2
        assert (np.abs(found[one.row_index] - expected) <= 1).mean() >= 0.999


def test_a_row_is_bit_equal_whatever_its_neighbours(flux):
    rows = [ROWS[0], *WIDE[:4], *ROWS[1:]]
    wanted, found = pictures(flux.render(rows)), pictures(flux.render(rows[::-1]))

    assert all(np.array_equal(found[index], wanted[index]) for index in wanted)


def test_every_scheduler_of_flows_is_a_table(flux):
    assert all(flux.kind_of(one)[1] is None for one in ROWS)


def test_a_solver_that_takes_no_noise_levels_steps_by_its_own(flux):
    one = row(20, scheduler="FlowMatchHeunDiscreteScheduler", num_inference_steps=3)
    drawn = pictures(flux.render([one, ROWS[0]]))

    assert flux.kind_of(one)[1] is None
    steps = flux.prepare(one, ()).table
    assert (steps.steps, steps.t[0]) == (5, 1000.0)  # two model calls a step, but in the last
    assert drawn[20].std() > 2


GROUPED = replace(
    ROWS[2], scheduler_config=FLOW_SIGMAS.replace("{", '{"thresholding":true,', 1), row_index=20
)


def test_a_solver_that_is_no_table_gives_the_picture_of_its_own_pipeline(pipe, flux):
    guided = replace(GROUPED, row_index=21, true_cfg_scale=3.0, guidance_scale=2.0)

    assert flux.kind_of(GROUPED)[1] is not None
    found = pictures(flux.render([GROUPED, guided, ROWS[0]]))

    for one in (GROUPED, guided):
        expected = call(pipe, one, "np")
        assert (np.abs(found[one.row_index] - expected) <= 1).mean() >= 0.999


def test_guidance_is_told_and_takes_one_lane_and_true_guidance_takes_two(flux):
    prepared = [flux.prepare(one, ()) for one in ROWS[:4]]

    assert [item.num_lanes for item in prepared] == [1, 1, 1, 2]
    latents = latents_of(flux, [ROWS[0], replace(ROWS[0], row_index=1, guidance_scale=9.0)], LANES)
    assert relative_error(latents[1], latents[0]) > 1e-3


def test_schnell_is_not_told_guidance_and_reads_shorter_texts(schnell_folder):
    model, pipe = load(schnell_folder), pipeline_of(schnell_folder)
    rows = [
        row(0, guidance_scale=0.0, num_inference_steps=4),
        row(1, guidance_scale=7.0, num_inference_steps=2),
        row(2, true_cfg_scale=3.0, num_inference_steps=3),
    ]
    found = latents_of(model, rows, LANES)

    for one in rows:
        wanted = call(pipe, one, "latent", max_sequence_length=FEW_TOKENS)
        assert relative_error(found[one.row_index], wanted) < 1e-4
    assert model.rooms[1].num_numbers == 0


def test_the_text_has_one_length_whatever_the_prompt(flux, schnell_folder):
    rows = [model.text_encoder.shape()[0] for model in (flux, load(schnell_folder))]

    assert rows == [T5_TOKENS + 2, FEW_TOKENS + 2]  # the pooled vector takes two rows of 32
    long = flux.text_encoder.encode(["a", "a red circle " * 99])
    assert [one.truncated for one in long] == [False, True]
    assert all(tuple(one.embeds.shape) == flux.text_encoder.shape() for one in long)


def test_packing_is_the_pipeline_s_and_undone_by_unpacking():
    latents = torch.randn(3, 4, 6, 8)

    packed = pack(latents)

    assert torch.equal(packed, diffusers.FluxPipeline._pack_latents(latents, 3, 4, 6, 8))
    assert torch.equal(unpack(packed, 3, 4), latents)


def test_its_facts_come_from_its_configurations(folder, schnell_folder):
    dev, schnell = find_model(str(folder)), find_model(str(schnell_folder))

    assert dev.size_multiple_px == schnell.size_multiple_px == 16
    assert (dev.defaults.num_inference_steps, dev.defaults.guidance_scale) == (28, 3.5)
    assert (schnell.defaults.num_inference_steps, schnell.defaults.guidance_scale) == (4, 0.0)
    assert dev.defaults.true_cfg_scale == schnell.defaults.true_cfg_scale == 1.0
    assert (dev.defaults.width, dev.defaults.height) == (256, 256)  # 128 cells of this tiny VAE


def test_prompts_are_counted_as_t5_reads_them(folder, schnell_folder):
    found = [prompt_lengths(find_model(str(one)), ["a cat"]) for one in (folder, schnell_folder)]

    assert [one.room for one in found] == [T5_TOKENS - 1, FEW_TOKENS - 1]
    assert all(one.exact for one in found)


def test_a_person_is_told_what_guidance_means_here(folder, schnell_folder):
    notes = [find_model(str(one)).notes for one in (folder, schnell_folder)]

    assert "is a number that this model is told" in notes[0][0]
    assert "is not told guidance_scale" in notes[1][0]
    assert all("true_cfg_scale is above 1" in note for (note,) in notes)


@pytest.mark.parametrize("part", ["tokenizer_2", "text_encoder_2", "transformer"])
def test_a_missing_part_is_refused_in_one_line(folder, tmp_path, part):
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.rmtree(other / part)

    with pytest.raises(ModelError, match=rf"the folder has no {part}/$"):
        find_model(str(other))

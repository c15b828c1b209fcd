"""What every family keeps: a row's latents are its own, whatever is drawn beside it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdbatch.render.families.table import FAMILIES
from sdbatch.render.grouped import GroupedRow
from sdbatch.render.text_encoder import TextEncoder
from sdbatch.render.weights.model_facts import find_model
from sdbatch.results import RowFailure
from tests.render.drawing import latents_of, make_row
from tests.render.families.alone import load
from tests.render.tiny_models import save_flux, save_pixart, save_sana, save_sd3, save_sdxl

pytestmark = pytest.mark.render


def save_sd(folder: Path) -> Path:
    """The embedded model."""
    return shutil.copytree(find_model("shapes").path, folder, dirs_exist_ok=True)


def save_alpha(folder: Path) -> Path:
    """PixArt-Alpha's large model, which is told of sizes."""
    return save_pixart(folder, "PixArtAlphaPipeline", {"sample_size": 128})


TINY = {
    "StableDiffusionPipeline": save_sd,
    "StableDiffusionXLPipeline": save_sdxl,
    "StableDiffusion3Pipeline": save_sd3,
    "FluxPipeline": save_flux,
    "PixArtSigmaPipeline": save_pixart,
    "PixArtAlphaPipeline": save_alpha,
    "SanaPipeline": save_sana,
}
LANES = 4
NOISE = ("DDIMScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler")
FLOW = ("FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler")


def test_every_family_is_among_them():
    assert TINY.keys() == FAMILIES.keys()


@pytest.fixture(scope="module", params=sorted(TINY))
def folder(request, tmp_path_factory):
    return TINY[request.param](tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def renderer(folder):
    return load(folder, p32x32=LANES)


@pytest.fixture(scope="module")
def family(renderer):
    return FAMILIES[renderer.env.pipeline_class]


def test_weighted_prompts_are_refused_in_a_plan_where_the_rooms_cannot_weigh(
    folder, renderer, family
):
    model = find_model(str(folder))

    assert renderer.rooms[0].weighted == family.weighted
    assert model.only == ({} if family.weighted else {"defaults.prompt_syntax": ("plain",)})


def told(family, some):
    """Rows as a plan would make them: models that embed guidance have a second number."""
    if not family.embeds_guidance:
        return some
    return [replace(row, true_cfg_scale=row.guidance_scale / 2) for row in some]


def rows(family):
    """Rows of unlike settings, with and without guidance."""
    schedulers = FLOW if family.flow else NOISE
    unlike = [
        make_row(
            i,
            negative_prompt=("", "a green star")[i % 2],
            scheduler=schedulers[i % len(schedulers)],
            num_inference_steps=2 + i % 3,
            guidance_scale=(4.5, 1.0, 3.0)[i % 3],
        )
        for i in range(5)
    ]
    return told(family, unlike)


def fresh(renderer, some):
    """Latents of rows whose prompts were not encoded yet."""
    renderer.text_encoder = TextEncoder(renderer.rooms[0])
    return latents_of(renderer, some, LANES)


def check_arrangements(renderer, some):
    """Bit for bit: in another order, at another place with other neighbours, and alone."""
    wanted = fresh(renderer, some)
    for arrangement in (some[::-1], some[2:] + some[:1], some[1:2]):
        found = fresh(renderer, arrangement)
        assert sorted(found) == sorted(row.row_index for row in arrangement)
        for index, latents in found.items():
            assert torch.equal(latents, wanted[index]), (index, arrangement)
    assert len({tuple(one.flatten()[:4].tolist()) for one in wanted.values()}) == len(some)


def test_a_row_is_bit_equal_alone_with_neighbours_and_in_another_order(renderer, family):
    check_arrangements(renderer, rows(family))


def test_a_row_of_a_group_is_bit_equal_alone_with_neighbours_and_in_another_order(renderer, family):
    scheduler = "UniPCMultistepScheduler" if family.flow else "DDIMScheduler"
    clipped = {"scheduler": scheduler, "scheduler_config": '{"thresholding":true}'}
    alike = told(family, [make_row(i, **clipped) for i in range(3)])

    assert isinstance(renderer.prepare(alike[0], []), GroupedRow)
    check_arrangements(renderer, alike)


@pytest.mark.parametrize("part", ["denoiser", "text_encoder", "vae"])
def test_weights_that_are_no_numbers_fail_rows_and_nothing_else(renderer, family, part):
    name = family.denoiser if part == "denoiser" else part
    renderer.text_encoder = TextEncoder(renderer.rooms[0])

    with spoilt(renderer.components[name]):
        results = list(renderer.render(rows(family)[:3]))

    assert sorted(one.row.row_index for one in results) == [0, 1, 2]
    assert {type(one) for one in results} == {RowFailure}
    assert {one.error_type for one in results} == {"NonFiniteError"}


@contextmanager
def spoilt(model):
    """A model whose weights are no numbers, for as long as it is needed."""
    whole = [weight.detach().clone() for weight in model.parameters()]
    try:
        for weight in model.parameters():
            weight.detach().fill_(torch.nan)
        yield
    finally:
        for weight, kept in zip(model.parameters(), whole, strict=True):
            weight.detach().copy_(kept)

"""A checkpoint in one file fills the rooms as the diffusers folder of its weights does."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.loading import load_renderer
from sdbatch.render.weights.model_facts import find_model
from tests.render.drawing import latents_of, make_row, pictures
from tests.render.one_file import original, save_one_file, save_tiny_sd, save_tiny_sdxl

ROWS = [make_row(i, width_px=16, height_px=16, scheduler="DDIMScheduler") for i in range(3)]


def load(path, dtype="float32"):
    facts = find_model(str(path))
    spec = RenderSpec(facts.name, facts.path, facts.revision, dtype, {"16x16": 4}, 1)
    return load_renderer(spec, [])


@pytest.fixture(scope="module", params=[False, True], ids=["1.x", "2.x"])
def folder(request, tmp_path_factory):
    return save_tiny_sd(tmp_path_factory.mktemp("sd") / "folder", v2=request.param)


def test_latents_and_pixels_are_those_of_the_diffusers_folder(folder, tmp_path):
    file = save_one_file(folder, tmp_path / "one.safetensors")
    ours, theirs = load(file), load(folder)

    found, wanted = (latents_of(renderer, ROWS, 4) for renderer in (ours, theirs))
    for index, latents in wanted.items():
        assert torch.equal(found[index], latents)
    drawn, expected = pictures(ours.render(ROWS)), pictures(theirs.render(ROWS))
    assert all(np.array_equal(drawn[index], expected[index]) for index in expected)


def test_an_sdxl_in_one_file_has_the_latents_of_its_folder(tmp_path):
    folder = save_tiny_sdxl(tmp_path / "folder")
    file = save_one_file(folder, tmp_path / "xl.safetensors")

    found, wanted = (latents_of(load(place), ROWS, 4) for place in (file, folder))
    assert all(torch.equal(found[index], wanted[index]) for index in wanted)


def test_a_file_in_half_precision_is_loaded_in_the_planned_number_type(folder, tmp_path):
    file = save_one_file(folder, tmp_path / "half.safetensors", torch.float16)
    renderer = load(file, "float32")

    for part in ("unet", "vae", "text_encoder"):
        assert {p.dtype for p in renderer.components[part].parameters()} == {torch.float32}
    assert len(pictures(renderer.render(ROWS))) == 3


def test_averages_and_strangers_beside_the_weights_are_passed_over(folder, tmp_path):
    extra = {"model_ema.decay": torch.ones(1), "global_step": torch.ones(1)}
    file = save_one_file(folder, tmp_path / "one.safetensors", **extra)

    assert len(pictures(load(file).render(ROWS))) == 3


def test_a_clip_without_its_wrappers_name_is_the_same_clip(tmp_path):
    folder = save_tiny_sd(tmp_path / "folder")
    file = save_one_file(folder, tmp_path / "one.safetensors")
    short = {key.replace(".text_model.", "."): value for key, value in load_file(file).items()}
    assert short.keys() != load_file(file).keys()
    wanted = pictures(load(file).render(ROWS))
    save_file(short, file)

    drawn = pictures(load(file).render(ROWS))
    assert all(np.array_equal(drawn[index], wanted[index]) for index in wanted)


@pytest.mark.parametrize("part", ["model.diffusion_model", "first_stage_model", "cond_stage_model"])
def test_a_file_that_lacks_tensors_is_refused_rather_than_drawn_with(part, tmp_path):
    folder = save_tiny_sd(tmp_path / "folder")
    file = save_one_file(folder, tmp_path / "one.safetensors")
    tensors = original(folder)
    gone = next(key for key in tensors if key.startswith(part) and key.endswith("weight"))
    save_file({key: t.contiguous() for key, t in tensors.items() if key != gone}, file)

    with pytest.raises(ModelError, match=r"one\.safetensors") as caught:
        load(file)
    assert "\n" not in str(caught.value)
    assert "/tmp/sdbatch-model-" not in str(caught.value)

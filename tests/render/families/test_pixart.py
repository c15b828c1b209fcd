"""PixArt-Sigma and -Alpha draw what their own pipelines draw for each row alone."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from sdbatch import api
from sdbatch.errors import ModelError
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.prompt_length import prompt_lengths
from sdbatch.render.weights.model_facts import find_model
from sdbatch.results import RowFailure
from tests.render.drawing import make_row, relative_error
from tests.render.families.alone import Alone, check_latents, check_pictures, load
from tests.render.tiny_models import save_pixart, save_sentencepiece

pytestmark = pytest.mark.render

PLAIN = {"clean_caption": False, "use_resolution_binning": False}
SIZED = {"sample_size": 128}
"""Alpha's large model is told the size of the picture, by the size it was made for."""


@pytest.fixture(scope="module")
def sigma(tmp_path_factory):
    return save_pixart(tmp_path_factory.mktemp("sigma"))


@pytest.fixture(scope="module")
def alpha(tmp_path_factory):
    return save_pixart(tmp_path_factory.mktemp("alpha"), "PixArtAlphaPipeline", SIZED)


@pytest.fixture(scope="module")
def renderer(sigma):
    return load(sigma, p32x32=4)


def rows(**changes):
    """Rows of three schedulers, several steps, guidances and texts; one is without guidance."""
    schedulers = ("DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler", "DDIMScheduler")
    return [
        make_row(
            i,
            prompt=("A Red Circle ", "a blue star, 2 of them", "green " * (60 * i))[i % 3],
            negative_prompt=("", "Blurry")[i % 2],
            scheduler=schedulers[i % 3],
            num_inference_steps=2 + i % 4,
            guidance_scale=(4.5, 1.0, 2.0)[i % 3],
            **changes,
        )
        for i in range(6)
    ]


def test_rows_of_unlike_settings_give_the_latents_of_their_own_pipeline(sigma, renderer):
    check_latents(renderer, Alone(sigma, **PLAIN), rows(), lanes=4)


def test_rows_of_several_sizes_give_the_pictures_of_their_own_pipeline(sigma, renderer):
    mixed = [*rows()[:3], make_row(7, width_px=48), make_row(8, height_px=16)]

    check_pictures(renderer, Alone(sigma, **PLAIN), mixed)


def test_alpha_is_told_the_size_of_each_row(alpha):
    own, drawing = Alone(alpha, **PLAIN), load(alpha, p32x16=4)

    check_latents(drawing, own, rows(height_px=16), lanes=4)
    model = drawing.rooms[1]
    assert model.row_numbers(make_row(height_px=16)) == (16, 32, 0.5)


def test_the_size_changes_alphas_picture_and_sigma_is_not_told(alpha, renderer):
    model = load(alpha, p32x32=2).rooms[1]
    wide, tall = (torch.tensor([[64.0, 32.0, 2.0]]), torch.tensor([[32.0, 64.0, 0.5]]))

    assert not torch.equal(predict(model, wide), predict(model, tall))
    assert renderer.rooms[1].num_numbers == 0
    assert renderer.rooms[1].row_numbers(make_row()) == ()


def predict(model, numbers):
    with torch.inference_mode():
        return model.predict(
            LaneInputs(torch.ones(1, 4, 8, 8), torch.ones(1), torch.ones(1, 6, 33), numbers)
        )


def test_sigma_reads_300_tokens_and_alpha_120(alpha, renderer):
    assert renderer.text_encoder.shape() == (300, 33)
    assert load(alpha, p32x32=2).text_encoder.shape() == (120, 33)
    cut = [one.truncated for one in renderer.text_encoder.encode(["a" * 298, "a" * 299])]
    assert cut == [False, True]


def test_what_padding_holds_does_not_reach_the_picture(renderer):
    packed = renderer.text_encoder.encode(["a cat"])[0].embeds[None]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    other = packed.clone()
    other[0, packed[0, :, -1] == 0, :-1] = 9.0
    model = renderer.rooms[1]

    with torch.inference_mode():
        outputs = [predict_text(model, noise, text) for text in (packed, other)]

    assert relative_error(*outputs) < 1e-6


def predict_text(model, noise, text):
    return model.predict(LaneInputs(noise, torch.ones(1), text, torch.zeros(1, 0)))


def test_prompts_are_read_in_lower_case_and_stripped(renderer):
    one, other = renderer.text_encoder.encode(["A CAT ", "a cat"])

    assert torch.equal(one.embeds, other.embeds)


def test_prompts_are_counted_as_they_are_read(sigma, renderer, tmp_path):
    folder = shutil.copytree(sigma, tmp_path / "short")
    said = folder / "tokenizer" / "tokenizer_config.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"model_max_length": 120}))
    texts = ["A CAT ", "Ab" * 150, "aB" * 149]

    found = prompt_lengths(find_model(str(folder)), texts)

    assert (found.room, found.num_cut) == (299, 1)
    mask = load(folder, p32x32=2).rooms[0].tokenize(texts)[0][:, 1]
    assert [count + 1 for count in found.tokens[::2]] == mask.sum(1).tolist()[::2]
    assert [one.truncated for one in renderer.text_encoder.encode(texts)] == [False, True, False]


def test_weighted_prompts_are_refused_with_the_reason(renderer):
    results = list(renderer.render([make_row(0, prompt_syntax="a1111"), make_row(1)]))

    failed = [result for result in results if isinstance(result, RowFailure)]
    assert [one.error_message for one in failed] == [
        "prompt_syntax: a1111: this model reads plain prompts only"
    ]
    assert len(results) == 2


def test_a_folder_is_known_by_its_files_and_renders_and_replays(sigma, tmp_path):
    facts = find_model(str(sigma))
    asked = {"model": str(sigma), "engine": "inline", "num_inference_steps": 2}
    manifest = [{"prompt": "a red circle"}, {"prompt": "a star", "guidance_scale": 1.0}]

    assert (facts.defaults.width, facts.defaults.guidance_scale) == (32, 4.5)
    assert facts.defaults.scheduler == "DPMSolverMultistepScheduler"
    assert facts.size_multiple_px == 16
    assert api.plan(manifest, tmp_path / "out", **asked).images == 2
    assert api.render(manifest, tmp_path / "out", **asked).exit_code == 0
    replayed = api.open_dataset(tmp_path / "out").replay([0, 1])
    assert (replayed.exit_code, len(replayed.pictures)) == (0, 2)


def test_a_transformer_as_published_under_its_old_class_name_loads(sigma, tmp_path):
    old = shutil.copytree(sigma, tmp_path / "old")
    path = old / "transformer" / "config.json"
    config = json.loads(path.read_text())
    published = {"_class_name": "Transformer2DModel", "num_vector_embeds": None}
    path.write_text(json.dumps(config | published))
    row = make_row()

    drawn, wanted = (next(iter(load(one, p32x32=2).render([row]))) for one in (old, sigma))

    assert np.array_equal(drawn.pixels, wanted.pixels)


def test_a_tokenizer_as_published_without_tokenizer_json_loads(sigma, tmp_path):
    old = shutil.copytree(sigma, tmp_path / "old")
    shutil.rmtree(old / "tokenizer")
    words = save_sentencepiece(old / "tokenizer")

    tokens, cut = load(old, p32x32=2).rooms[0].tokenize(["A red circle"])

    end = [words.eos_id()]
    assert tokens[0, 0][tokens[0, 1].bool()].tolist() == words.encode("a red circle") + end
    assert cut == [False]


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "transformer", "vae", "scheduler"])
def test_a_missing_part_is_refused_in_one_line(sigma, tmp_path, part):
    folder = shutil.copytree(sigma, tmp_path / "broken")
    shutil.rmtree(folder / part)

    with pytest.raises(ModelError, match=f"the folder has no {part}/") as refused:
        find_model(str(folder))
    assert "\n" not in str(refused.value)

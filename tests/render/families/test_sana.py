"""Sana draws what its own pipeline draws for each row alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from sdbatch import api
from sdbatch.errors import InputError, ModelError
from sdbatch.model_specs import Speed
from sdbatch.render.families import sana as family
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.weights.model_facts import find_model
from sdbatch.results import RowFailure
from tests.render.drawing import make_row
from tests.render.families.alone import Alone, check_latents, check_pictures, load
from tests.render.tiny_models import GEMMA, save_sana

pytestmark = pytest.mark.render

PLAIN = {"use_resolution_binning": False}
FLOW = {"scheduler": "FlowMatchEulerDiscreteScheduler"}
SCHEDULERS = (
    "DPMSolverMultistepScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "UniPCMultistepScheduler",
)


@pytest.fixture(scope="module")
def sana(tmp_path_factory):
    return save_sana(tmp_path_factory.mktemp("sana"))


@pytest.fixture(scope="module")
def renderer(sana):
    return load(sana, p32x32=4)


@pytest.fixture(scope="module")
def alone(sana):
    return Alone(sana, **PLAIN)


def rows(**changes):
    """Rows of three flow schedulers, several steps, guidances and texts; two without guidance."""
    return [
        make_row(
            i,
            prompt=("A Red Circle ", "a blue star, 2 of them", "green " * (99 * i))[i % 3],
            negative_prompt=("", "Blurry")[i % 2],
            scheduler=SCHEDULERS[i // 2],
            num_inference_steps=2 + i % 4,
            guidance_scale=(4.5, 1.0, 2.0)[i % 3],
            **changes,
        )
        for i in range(6)
    ]


def test_rows_of_unlike_settings_give_the_latents_of_their_own_pipeline(renderer, alone):
    check_latents(renderer, alone, rows(), lanes=4)


def test_rows_of_several_sizes_give_the_pictures_of_their_own_pipeline(renderer, alone):
    mixed = [*rows()[:3], *rows(width_px=64)[3:5]]

    check_pictures(renderer, alone, mixed)


def test_a_prompt_stands_behind_the_instruction_and_a_negative_one_does_not(renderer):
    text = renderer.rooms[0]
    asked = ["a cat", family.negative_text("a cat"), "a cat " * 200]

    tokens, cut = text.tokenize(asked)
    taken = tokens[:, 0][tokens[:, 2].bool()].view(3, 300)

    own = text.tokenizer("a cat").input_ids
    assert taken[0, 0] == own[0] == text.tokenizer.bos_token_id
    assert taken[1, : len(own)].tolist() == own
    read = text.tokenizer.decode(taken[0], skip_special_tokens=True)
    assert read.endswith(" a cat")
    assert len(read) < len("User Prompt: a cat")  # of the instruction hardly more than its end
    assert tokens[:, 2].sum(1).tolist() == [300, 300, 300]
    assert cut == [False, False, True]
    assert text.shape() == (300, GEMMA["hidden_size"] + 1)


def test_a_prompt_and_an_equal_negative_one_are_told_apart(renderer):
    texts = ["a cat", family.negative_text("a cat"), "A CAT "]

    prompt, negative, loud = (one.embeds for one in renderer.text_encoder.encode(texts))

    assert not torch.equal(prompt, negative)
    assert torch.equal(prompt, loud)


def test_timesteps_have_the_scale_that_the_model_was_trained_with(sana, tmp_path):
    folder = shutil.copytree(sana, tmp_path / "scaled")
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timestep_scale": 0.001}))

    check_latents(load(folder, p32x32=2), Alone(folder, **PLAIN), [make_row(0, **FLOW)], lanes=2)


def test_half_precision_is_the_transformers_alone(sana):
    rooms = family.load(sana, torch.device("cpu"), torch.float16)

    kinds = {name: rooms.components[name].dtype for name in ("text_encoder", "transformer", "vae")}
    assert kinds == {
        "text_encoder": torch.bfloat16, "transformer": torch.float16, "vae": torch.bfloat16,
    }  # fmt: skip


def test_a_padded_lane_holds_no_nan(renderer):
    shape = (2, *renderer.text_encoder.shape())
    empty = LaneInputs(torch.zeros(2, 8, 4, 4), torch.zeros(2), torch.zeros(shape))

    with torch.inference_mode():
        assert renderer.rooms[1].predict(empty).isfinite().all()


def test_weighted_prompts_are_refused_with_the_reason(renderer):
    results = list(renderer.render([make_row(0, prompt_syntax="a1111", **FLOW)]))

    assert [type(one) for one in results] == [RowFailure]
    assert results[0].error_message == "prompt_syntax: a1111: this model reads plain prompts only"


def test_weighted_prompts_are_refused_before_the_run(sana, tmp_path):
    weighted = [{"prompt": "a (red:1.2) star", "prompt_syntax": "a1111"}]

    with pytest.raises(InputError, match="drawn with plain alone"):
        api.plan(weighted, tmp_path / "out", model=str(sana), engine="inline")
    with pytest.raises(InputError, match="drawn with plain alone"):
        api.plan([{"prompt": "a"}], tmp_path / "out", model=str(sana), prompt_syntax="a1111")


def test_a_scheduler_that_follows_no_flow_is_refused_with_the_reason(renderer):
    results = list(renderer.render([make_row(0, scheduler="DDIMScheduler")]))

    assert [type(one) for one in results] == [RowFailure]
    assert "flow_prediction" in results[0].error_message


def test_a_folder_is_known_by_its_files_and_renders_and_replays(sana, tmp_path):
    facts = find_model(str(sana))
    asked = {"model": str(sana), "engine": "inline", "num_inference_steps": 2}
    manifest = [{"prompt": "a red circle"}, {"prompt": "a star", "guidance_scale": 1.0}]

    assert (facts.defaults.width, facts.defaults.guidance_scale) == (32, 4.5)
    assert facts.defaults.scheduler == "DPMSolverMultistepScheduler"
    assert facts.size_multiple_px == 32
    assert facts.flow
    assert api.plan(manifest, tmp_path / "out", **asked).images == 2
    assert api.render(manifest, tmp_path / "out", **asked).exit_code == 0
    replayed = api.open_dataset(tmp_path / "out").replay([0, 1])
    assert (replayed.exit_code, len(replayed.pictures)) == (0, 2)


def test_attention_by_name_leaves_linear_attention_as_it_is(sana, alone):
    drawing = load(sana, Speed(attention="sdpa"), p32x32=4)

    check_latents(drawing, alone, rows()[:2], lanes=4)


@pytest.mark.parametrize(
    ("speed", "reason"),
    [
        (Speed(fuse_qkv=True), r"render\.fuse_qkv: no layer of it can be fused"),
        (Speed(lossy="deepcache:3"), r"render\.lossy: deepcache: made for UNets"),
        (
            Speed(compile=True),
            r"render\.compile: diffusers names no blocks of SanaTransformer2DModel",
        ),
    ],
)
def test_a_switch_that_changes_nothing_is_refused(sana, speed, reason):
    with pytest.raises(ModelError, match=reason):
        load(sana, speed)


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder", "transformer", "vae", "scheduler"])
def test_a_missing_part_is_refused_in_one_line(sana, tmp_path, part):
    folder = shutil.copytree(sana, tmp_path / "broken")
    shutil.rmtree(folder / part)

    with pytest.raises(ModelError, match=f"the folder has no {part}/"):
        find_model(str(folder))


def test_a_transformer_that_embeds_guidance_is_refused_with_the_reason(tmp_path):
    folder = save_sana(tmp_path, {"guidance_embeds": True})

    with pytest.raises(ModelError, match="embeds guidance"):
        find_model(str(folder))

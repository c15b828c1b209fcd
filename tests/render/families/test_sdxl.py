"""Stable Diffusion XL: rows of many settings in one batch, each as its own pipeline draws it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch

from sdbatch import api
from sdbatch.engine.check_run import limits_of
from sdbatch.errors import JobError, ManifestRowsError, ModelError
from sdbatch.manifest.micro_conditioning import one_spelling
from sdbatch.manifest.prompt_syntax import A1111
from sdbatch.model_specs import RenderSpec, Speed
from sdbatch.render.architecture import folder_architecture
from sdbatch.render.diffusers_folder import load_folder
from sdbatch.render.flops import pass_flops
from sdbatch.render.memory.memory_need import memory_need
from sdbatch.render.model import Model
from sdbatch.render.plain_pipeline import PlainPipeline
from sdbatch.render.random_model import count_parameters, load_random, make_rooms
from sdbatch.render.schedulers import scheduler_setting
from sdbatch.render.weights.model_facts import find_model
from tests.render.drawing import latents_of, make_row, pictures, relative_error
from tests.render.tiny_models import save_sdxl

LANES = 4
KARRAS = '{"use_karras_sigmas":true}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_sdxl(tmp_path_factory.mktemp("sdxl") / "tiny")


@pytest.fixture(scope="module")
def sdxl(folder):
    return load(folder)


def load(folder, dtype="float32"):
    lanes = {"32x32": LANES, "48x32": LANES}
    return load_folder(RenderSpec("tiny", str(folder), "", dtype, lanes, 1))


def pipeline_of(folder, **options):
    options = {"dtype": torch.float32, "add_watermarker": False} | options
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe, row, output_type, **options):
    """The pipeline's own output for one row: latents `[C, h, w]` or pixels `[H, W, 3]`."""
    config, overrides = dict(pipe.scheduler.config), json.loads(row.scheduler_config or "{}")
    setting = scheduler_setting(row.scheduler, config, overrides, row.num_inference_steps)
    pipe.scheduler = getattr(diffusers, row.scheduler).from_config(dict(setting.config))
    texts = {"prompt": row.prompt, "negative_prompt": row.negative_prompt or None}
    found = pipe(
        **texts | options,
        width=row.width_px,
        height=row.height_px,
        num_inference_steps=row.num_inference_steps,
        guidance_scale=row.guidance_scale,
        generator=torch.Generator().manual_seed(row.seed),
        output_type=output_type,
    ).images[0]
    return found if output_type == "latent" else (found * 255).round().astype(int)


ROWS = [
    make_row(0, scheduler="EulerDiscreteScheduler", num_inference_steps=5),
    make_row(1, scheduler="DPMSolverMultistepScheduler", scheduler_config=KARRAS),
    make_row(2, scheduler="EulerAncestralDiscreteScheduler", negative_prompt="a blue square"),
    make_row(3, guidance_scale=1.0, num_inference_steps=4),
    make_row(4, negative_prompt="red", guidance_scale=7.5, seed=9),
]
WIDE = [replace(row, row_index=10 + i, width_px=48) for i, row in enumerate(ROWS[:3])]


@pytest.mark.parametrize("rows", [ROWS, WIDE])
def test_latents_are_those_of_its_own_pipeline(folder, sdxl, rows):
    pipe = pipeline_of(folder)
    found = latents_of(sdxl, rows, LANES)

    for row in rows:
        assert relative_error(found[row.row_index], call(pipe, row, "latent")) < 1e-4


def test_pictures_are_those_of_its_own_pipeline(folder, sdxl):
    pipe = pipeline_of(folder)
    found = pictures(sdxl.render([*ROWS, *WIDE]))

    for row in (*ROWS, *WIDE):
        expected = call(pipe, row, "np")
        assert expected.std() > 2
        assert (np.abs(found[row.row_index] - expected) <= 1).mean() >= 0.999


def test_an_absent_negative_prompt_is_zeros_only_where_the_model_says_so(folder, sdxl, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    index = json.loads((other / "model_index.json").read_text())
    assert index["force_zeros_for_empty_prompt"] is True
    (other / "model_index.json").write_text(
        json.dumps(index | {"force_zeros_for_empty_prompt": False})
    )
    zeros, texts = (latents_of(one, ROWS[:1], LANES)[0] for one in (sdxl, load(other)))

    assert relative_error(texts, call(pipeline_of(other), ROWS[0], "latent")) < 1e-4
    assert relative_error(zeros, texts) > 1e-2


def test_a_model_of_one_step_draws_as_its_own_pipeline(tmp_path):
    folder = save_sdxl(tmp_path, scheduler={"timestep_spacing": "trailing"})
    rows = [make_row(i, guidance_scale=0.0, num_inference_steps=1 + i) for i in range(2)]
    rows = [replace(row, scheduler="EulerAncestralDiscreteScheduler") for row in rows]
    found, pipe = latents_of(load(folder), rows, LANES), pipeline_of(folder)

    for row in rows:
        assert relative_error(found[row.row_index], call(pipe, row, "latent")) < 1e-4


def test_channels_that_are_scaled_each_on_its_own_are_decoded_so(tmp_path):
    own = {"latents_mean": [0.5, -1.0, 2.0, 0.0], "latents_std": [3.0, 4.0, 5.0, 6.0]}
    folder = save_sdxl(tmp_path, vae=own)
    expected = call(pipeline_of(folder), ROWS[0], "np")

    assert (np.abs(pictures(load(folder).render(ROWS[:1]))[0] - expected) <= 1).mean() >= 0.999


def test_a_folder_of_half_copies_is_read_in_either_number_format(tmp_path):
    folder = save_sdxl(tmp_path, variant="fp16")
    assert list(folder.glob("*/*.fp16.safetensors"))
    assert not (folder / "unet/diffusion_pytorch_model.safetensors").exists()
    expected = call(pipeline_of(folder, variant="fp16"), ROWS[0], "latent")

    assert relative_error(latents_of(load(folder), ROWS[:1], LANES)[0], expected) < 1e-4
    half = load(folder, "float16")
    assert half.components["unet"].dtype == torch.float16
    whole = pictures(load(folder).render(ROWS[:1]))[0].astype(int)
    assert np.abs(pictures(half.render(ROWS[:1]))[0] - whole).mean() < 2


def test_speed_switches_leave_it_told_of_sizes(folder):
    lanes = {"32x32": LANES}
    speed = Speed(lossy="deepcache:2", fuse_qkv=True)
    spec = RenderSpec("tiny", str(folder), "", "float32", lanes, 1, speed)
    row, plain = ROWS[0], latents_of(load(folder), ROWS[:1], LANES)[0]
    told = replace(row, row_index=1, micro_conditioning='{"target_size":[300,20]}')
    found = latents_of(load_folder(spec), [row, told], LANES)

    assert relative_error(found[0], plain) < 0.2
    assert relative_error(found[1], found[0]) > 1e-3


def test_the_plain_pipeline_beside_it_draws_the_same(sdxl, folder):
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    rows = [make_row(i, scheduler="EulerDiscreteScheduler") for i in range(3)]
    ours, theirs = pictures(sdxl.render(rows)), PlainPipeline(sdxl, config, 1).draw(rows, 3)

    assert len(theirs) == 3
    for i in range(3):
        assert (np.abs(ours[i].astype(int) - theirs[i]) <= 1).mean() >= 0.999


def test_sizes_that_rows_name_are_told_as_its_own_pipeline_tells_them(folder, sdxl):
    pipe = pipeline_of(folder)
    told = {"original_size": [20, 300], "crops_coords_top_left": [5, 17]}
    rows = [ROWS[0], replace(ROWS[0], row_index=1, micro_conditioning=one_spelling(told))]
    found = latents_of(sdxl, rows, LANES)

    for row, sizes in zip(rows, ({}, told), strict=True):
        sizes = {name: tuple(pair) for name, pair in sizes.items()}
        expected = call(pipe, row, "latent", **sizes)
        assert relative_error(found[row.row_index], expected) < 1e-4
    assert relative_error(found[0], found[1]) > 1e-3


def test_a_manifest_is_planned_rendered_and_replayed(folder, manifest, tmp_path):
    asked = {"model": str(folder), "engine": "inline", "num_inference_steps": 2}
    asked["negative_prompt"] = "a blue square"
    columns = {
        "scheduler": ["euler", "dpm++ 2m karras", "ddim"],
        "micro_conditioning": [None, '{"target_size": [64, 64]}', ""],
    }
    rows, out = manifest(3, **columns), tmp_path / "out"

    asked["settings"] = ["defaults.micro_conditioning.original_size=[48, 40]"]

    assert api.plan(rows, out, **asked).images == 3
    assert api.render(rows, out, **asked).exit_code == 0
    stored = api.open_dataset(out).to_table(["row_index", "micro_conditioning"])
    of_the_job = '{"original_size":[48,40]}'
    said = dict(zip(*stored.to_pydict().values(), strict=True))
    assert said == {0: of_the_job, 1: '{"target_size":[64,64]}', 2: of_the_job}
    replayed = api.open_dataset(out).replay([0, 1, 2])
    assert replayed.exit_code == 0
    assert len(replayed.pictures) == 3


def test_an_untold_dataset_names_no_sizes_and_faulty_ones_are_refused(folder, manifest, tmp_path):
    asked = {"model": str(folder), "engine": "inline", "num_inference_steps": 1}
    assert api.render(manifest(1), tmp_path / "out", **asked).exit_code == 0
    stored = api.open_dataset(tmp_path / "out").to_table(["micro_conditioning"])
    assert stored["micro_conditioning"].to_pylist() == [None]

    asked["settings"] = ["defaults.micro_conditioning.original_size=[48]"]
    with pytest.raises(JobError, match="original_size must be two whole numbers"):
        api.plan(manifest(1), tmp_path / "other", **asked)
    with pytest.raises(JobError, match="this model is not told of sizes"):
        api.plan(manifest(1), tmp_path / "other", **asked | {"model": "shapes"})


def test_sizes_of_a_job_reach_every_row_and_only_models_that_are_told_them(folder):
    row = {"prompt": "a red circle"}
    facts = find_model(str(folder))
    said = replace(facts.defaults, micro_conditioning='{"original_size":[9,8]}')
    model = Model(replace(facts, defaults=said), None, limits_of(facts))
    (drawn,) = model.resolve([row])
    (plain,) = Model(facts, None, limits_of(facts)).resolve([row])

    assert drawn.micro_conditioning == '{"original_size":[9,8]}'
    assert plain.micro_conditioning == ""
    assert plain.row_hash != drawn.row_hash
    asking = row | {"micro_conditioning": {"original_size": [9, 8]}}
    shapes = find_model("shapes")
    with pytest.raises(ManifestRowsError, match="this model is not told of sizes"):
        list(Model(shapes, None, limits_of(shapes)).resolve([asking]))
    with pytest.raises(ManifestRowsError, match="did you mean 'original_size'"):
        list(model.resolve([row | {"micro_conditioning": {"originalsize": [9, 8]}}]))


def test_it_draws_with_random_weights_and_words_and_counts_what_it_takes(folder):
    architecture = folder_architecture("tiny", folder)
    rooms = make_rooms(architecture, torch.device("meta"), torch.float32)
    need = memory_need(rooms, LANES, (32, 32))
    renderer = load_random(RenderSpec("tiny", "", "", "float32", {"32x32": LANES}, 1), architecture)

    assert len(pictures(renderer.render(ROWS))) == len(ROWS)
    assert need.weights == 4 * sum(count_parameters(rooms).values())
    assert pass_flops(rooms, LANES, (16, 16)) > 1e6


def test_a_benchmark_holds_it_beside_its_own_pipeline(folder):
    report = api.bench(
        model=str(folder), rows=2, num_inference_steps=2, batch_size=4, rounds=1,
        compare="diffusers",
    )  # fmt: skip

    names = ["uniform", "diffusers one by one", "diffusers in batches"]
    assert [one.name for one in report.measured] == names
    assert report.arithmetic.flops_per_pass > 0


def weighted_tokens(pipe, text_weights):
    """Ids of one chunk for both tokenizers, and the weight of every token."""
    marks = (pipe.tokenizer.bos_token_id, pipe.tokenizer.eos_token_id)
    found = [
        (token, weight)
        for text, weight in text_weights
        for token in pipe.tokenizer(text, add_special_tokens=False).input_ids
    ]
    room = 32 - 2 - len(found)
    middle, weights = [token for token, _ in found], [weight for _, weight in found]
    fills = (pipe.tokenizer.pad_token_id, pipe.tokenizer_2.pad_token_id)
    assert fills[0] != fills[1]
    ids = [torch.tensor([[marks[0], *middle, marks[1], *[fill] * room]]) for fill in fills]
    return ids, torch.tensor([1.0, *weights, *[1.0] * (room + 1)])


def weighted_embeds(pipe, chunks):
    """Embeddings and pooled vector as A1111 makes them, by another road than the package's."""
    texts, pooled = [], []
    for chunk in chunks:
        ids, weights = weighted_tokens(pipe, chunk)
        sides = []
        for one, encoder in zip(ids, (pipe.text_encoder, pipe.text_encoder_2), strict=True):
            output = encoder(one, output_hidden_states=True)
            hidden = output.hidden_states[-2]
            scaled = hidden * weights[None, :, None]
            sides.append(scaled * (hidden.mean() / scaled.mean()))
        texts.append(torch.cat(sides, -1))
        pooled.append(output.text_embeds)
    return torch.cat(texts, 1), pooled[0]


def test_weighted_prompts_are_weighed_by_encoder_and_keep_the_pooled_vector_of_their_first_chunk(
    folder, sdxl
):
    pipe = pipeline_of(folder)
    first, second = [("a red", 1.0), ("circle", 1.5)], [("on", 1.0), ("white", 0.5)]
    with torch.inference_mode():
        embeds, pooled = weighted_embeds(pipe, [first, second])
        row = make_row(
            0, prompt="a red (circle:1.5) BREAK on (white:0.5)", prompt_syntax=A1111,
            scheduler="EulerDiscreteScheduler",
        )  # fmt: skip
        given = {
            "prompt": None, "negative_prompt": None, "prompt_embeds": embeds,
            "pooled_prompt_embeds": pooled, "negative_prompt_embeds": torch.zeros_like(embeds),
            "negative_pooled_prompt_embeds": torch.zeros_like(pooled),
        }  # fmt: skip
        expected = call(pipe, row, "latent", **given)

    assert relative_error(latents_of(sdxl, [row], LANES)[0], expected) < 1e-4


def test_a_prompt_without_weights_is_the_same_in_either_syntax(sdxl):
    rows = [ROWS[0], replace(ROWS[0], row_index=1, prompt_syntax=A1111)]
    found = pictures(sdxl.render(rows))

    assert np.array_equal(found[0], found[1])


def test_tokenizers_of_unlike_words_read_plain_prompts_only(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "tokenizer_2/tokenizer.json"
    words = json.loads(path.read_text())
    vocab = words["model"]["vocab"]
    vocab["8k</w>"], vocab["4k</w>"] = vocab["4k</w>"], vocab["8k</w>"]
    path.write_text(json.dumps(words))
    failure = next(iter(load(other).render([replace(ROWS[0], prompt_syntax=A1111)])))

    assert "this model reads plain prompts only" in failure.error_message


def test_facts_say_the_family_and_what_it_takes(folder):
    facts = find_model(str(folder))

    assert facts.pipeline_class == "StableDiffusionXLPipeline"
    assert (facts.defaults.num_inference_steps, facts.defaults.guidance_scale) == (50, 5.0)
    assert (facts.defaults.width, facts.defaults.scheduler) == (32, "EulerDiscreteScheduler")


@pytest.mark.parametrize(
    ("unet", "said"),
    [
        ({"time_cond_proj_dim": 16}, "embeds guidance"),
        ({"in_channels": 9}, "inpainting or editing model"),
        ({"addition_embed_type": None}, "wants more than text"),
    ],
)
def test_what_it_can_be_no_model_for_is_refused_in_one_line(folder, tmp_path, unet, said):
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "unet/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | unet))

    with pytest.raises(ModelError, match=said) as caught:
        find_model(str(other))
    assert "\n" not in str(caught.value)


def test_a_missing_second_encoder_is_refused_in_one_line(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.rmtree(other / "text_encoder_2")

    with pytest.raises(ModelError, match="text_encoder_2/") as caught:
        find_model(str(other))
    assert "\n" not in str(caught.value)


def test_a_refiner_under_the_base_model_name_is_refused_in_one_line(tmp_path):
    folder = save_sdxl(tmp_path, unet={"projection_class_embeddings_input_dim": 5 * 8 + 40})

    with pytest.raises(ModelError, match="80 numbers beside text and would get 88: a refiner or"):
        find_model(str(folder))

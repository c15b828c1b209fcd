"""What a plan knows and refuses of models that are drawn whole, without torch."""

import json
import subprocess
import sys

import pytest

from sdbatch.errors import ModelError
from sdbatch.render.weights.model_facts import find_model

UNET = {"sample_size": 16, "num_train_timesteps": 400}
INDEX = {
    "_class_name": "DDPMPipeline",
    "scheduler": ["diffusers", "DDPMScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}


@pytest.fixture
def folder(tmp_path):
    """`folder(index, part={config})`: a model of configurations and empty weights."""

    def write(index, **configs):
        for part, value in index.items():
            if isinstance(value, list) and value[0]:
                (tmp_path / part).mkdir(parents=True, exist_ok=True)
                kind = "scheduler_config" if part.endswith("scheduler") else "config"
                text = json.dumps(configs.get(part, {}))
                (tmp_path / part / f"{kind}.json").write_text(text)
                (tmp_path / part / "model.safetensors").write_bytes(b"")
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        return str(tmp_path)

    return write


def text_index(pipeline="HunyuanDiTPipeline", **more):
    return {
        "_class_name": pipeline,
        "transformer": ["diffusers", "HunyuanDiT2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        **more,
    }


VAE = {"block_out_channels": [1, 2, 3, 4]}


def test_a_model_in_pixels_draws_one_size_without_words(folder):
    facts = find_model(folder(INDEX, unet=UNET, scheduler={"num_train_timesteps": 400}))
    assert (facts.defaults.width, facts.defaults.height) == (16, 16)
    assert facts.defaults.num_inference_steps == 1000
    assert facts.num_train_timesteps == 400
    assert facts.only["defaults.width"] == (16,)
    assert facts.only["defaults.guidance_scale"] == (1.0,)
    assert facts.only["defaults.negative_prompt"] == ("",)
    assert facts.only["defaults.scheduler"] == ("DDPMScheduler",)
    assert facts.notes[1].endswith("draws without words: prompts are ignored")


def test_a_model_in_latents_draws_any_size_of_its_cells(folder):
    path = folder(text_index(), transformer={"sample_size": 128, "patch_size": 2}, vae=VAE)
    facts = find_model(path)
    assert (facts.defaults.width, facts.size_multiple_px) == (1024, 16)
    assert facts.defaults.num_inference_steps == 50
    assert facts.sources["guidance_scale"] == "pipeline HunyuanDiTPipeline"
    assert "defaults.scheduler" not in facts.only
    assert "defaults.width" not in facts.only


def test_kandinsky_draws_sizes_of_squared_cells(folder):
    index = {
        "_class_name": "KandinskyV22CombinedPipeline",
        "movq": ["diffusers", "VQModel"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "prior_scheduler": ["diffusers", "UnCLIPScheduler"],
    }
    facts = find_model(folder(index, movq=VAE, unet={"sample_size": 64}))
    assert facts.size_multiple_px == 64
    assert (facts.defaults.width, facts.defaults.scheduler) == (512, "DDPMScheduler")


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("StableDiffusionUpscalePipeline", "draws from a picture: needs image"),
        ("WanPipeline", "draws no picture but video"),
        ("KandinskyV22PriorPipeline", "its output holds no pictures"),
        ("KandinskyV22Pipeline", "needs image_embeds and negative_image_embeds, which no row has"),
        ("NoSuchPipeline", "is no pipeline of diffusers that is known here"),
    ],
)
def test_a_pipeline_that_no_row_can_be_drawn_with_is_refused(folder, pipeline, reason):
    with pytest.raises(ModelError, match=f"{pipeline} {reason}"):
        find_model(folder({**INDEX, "_class_name": pipeline}))


@pytest.mark.parametrize(
    ("index", "what"),
    [
        ({**INDEX, "_class_name": ["pipeline", "Mine"]}, r"pipeline is code of its own"),
        ({**INDEX, "unet": ["my_unet", "Mine"]}, "unet is code of its own"),
        ({**INDEX, "unet": ["os", "system"]}, "unet is code of its own"),
    ],
)
def test_code_in_a_model_is_never_run(folder, index, what):
    with pytest.raises(ModelError, match=what + ".*never run"):
        find_model(folder(index, unet=UNET))


def test_python_beside_a_part_is_refused_even_under_a_name_of_diffusers(folder):
    path = folder(INDEX, unet=UNET)
    find_model(path)
    with open(f"{path}/unet/diffusers.py", "w") as file:
        file.write("raise SystemExit")
    with pytest.raises(ModelError, match="unet is code of its own"):
        find_model(path)


def test_a_part_that_is_not_there_is_named(folder, tmp_path):
    path = folder(INDEX, unet=UNET)
    (tmp_path / "scheduler/scheduler_config.json").unlink()
    (tmp_path / "scheduler/model.safetensors").unlink()
    (tmp_path / "scheduler").rmdir()
    with pytest.raises(ModelError, match="the folder has no scheduler/"):
        find_model(path)


def test_a_fixed_size_that_nobody_states_is_refused(folder):
    with pytest.raises(ModelError, match="does not say how large it draws"):
        find_model(folder(INDEX))


def test_labels_without_names_are_refused(folder):
    index = {**INDEX, "_class_name": "ConsistencyModelPipeline"}
    with pytest.raises(ModelError, match="its classes have no names"):
        find_model(folder(index, unet={**UNET, "num_class_embeds": 10}))
    assert find_model(folder(index, unet=UNET)).defaults.num_inference_steps == 1


def test_facts_need_no_torch(folder):
    path = folder(INDEX, unet=UNET)
    code = (
        "import sys; from sdbatch.render.weights.model_facts import find_model; "
        f"find_model({path!r}); sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Checkpoints in one file are told apart by names and shapes, and made folders of."""

import json
from importlib import resources
from pathlib import Path

import pytest
import torch

from sdbatch.errors import ModelError
from sdbatch.render.families.table import FAMILIES
from sdbatch.render.prompt_length import prompt_lengths
from sdbatch.render.weights.model_facts import find_model, scheduler_config
from sdbatch.render.weights.single_file import POINTER, model_folder, place_revision, weights_of
from tests.render.one_file import published, save_one_file, save_shapes, save_tiny_sd

RENDER = Path(str(resources.files("sdbatch"))) / "render"
SOURCES = {
    "sd15": "architectures/sd15.json",
    "sd21": "architectures/sd21.json",
    "sdxl": "architectures/sdxl.json",
    "sdxl-refiner": "checkpoints/sdxl-refiner.json",
}
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
TELLING = "model__diffusion_model__output_blocks__11__1__transformer_blocks__0__norm1__bias"


@pytest.fixture(scope="module")
def shapes():
    """`shapes("sdxl")` -> tensor to shape of the published checkpoint."""
    made = {}

    def of(kind, **changes):
        if kind not in made:
            source = json.loads((RENDER / SOURCES[kind]).read_text())
            made[kind] = {key: tuple(tensor.shape) for key, tensor in published(source).items()}
        return made[kind] | changes

    return of


def test_sd_1_is_known_by_its_shapes_and_drawn_as_published(shapes, tmp_path):
    facts = find_model(str(save_shapes(tmp_path / "dreamy.safetensors", shapes("sd15"))))

    assert facts.pipeline_class == "StableDiffusionPipeline"
    assert (facts.defaults.width, facts.defaults.height) == (512, 512)
    assert facts.defaults.scheduler == "PNDMScheduler"
    assert facts.path == str(tmp_path / "dreamy.safetensors")
    assert facts.size_bytes == (tmp_path / "dreamy.safetensors").stat().st_size > 2 * 10**9
    assert scheduler_config(facts)["prediction_type"] == "epsilon"


@pytest.mark.parametrize(
    ("spread", "predicts", "side"), [(0.2, "v_prediction", 768), (0.01, "epsilon", 512)]
)
def test_sd_2_tells_by_one_layer_what_it_predicts(shapes, tmp_path, spread, predicts, side):
    layer = torch.linspace(-1, 1, 320)
    path = tmp_path / "v2.safetensors"
    rest = {
        key: shape for key, shape in shapes("sd21").items() if key != TELLING.replace("__", ".")
    }
    facts = find_model(str(save_shapes(path, rest, **{TELLING: layer / layer.std() * spread})))

    assert scheduler_config(facts)["prediction_type"] == predicts
    assert (facts.defaults.width, facts.defaults.height) == (side, side)


def config_of(path):
    with model_folder(path) as folder:
        return {
            part: json.loads((folder / file).read_text())
            for part, file in (
                ("index", "model_index.json"),
                ("scheduler", "scheduler/scheduler_config.json"),
                ("unet", "unet/config.json"),
            )
        }


@pytest.mark.parametrize(
    ("kind", "pipeline", "parts"),
    [
        ("sdxl", "StableDiffusionXLPipeline", {"text_encoder", "text_encoder_2"}),
        ("sdxl-refiner", "StableDiffusionXLImg2ImgPipeline", {"text_encoder_2"}),
    ],
)
def test_sdxl_and_its_refiner_are_known_by_their_shapes(shapes, tmp_path, kind, pipeline, parts):
    found = config_of(save_shapes(tmp_path / "xl.safetensors", shapes(kind)))

    assert found["index"]["_class_name"] == pipeline
    assert {part for part in found["index"] if part.startswith("text_encoder")} == parts
    assert found["scheduler"]["prediction_type"] == "epsilon"
    assert found["unet"]["sample_size"] == 128


def test_marker_tensors_say_that_an_sdxl_predicts_the_velocity_down_to_noise(shapes, tmp_path):
    marked = shapes("sdxl", v_pred=(0,), ztsnr=(0,))
    scheduler = config_of(save_shapes(tmp_path / "v.safetensors", marked))["scheduler"]

    assert scheduler["prediction_type"] == "v_prediction"
    assert scheduler["rescale_betas_zero_snr"] is True
    assert scheduler["timestep_spacing"] == "trailing"


@pytest.mark.parametrize(
    ("metadata", "predicts"),
    [
        ({"modelspec.prediction_type": "v"}, "v_prediction"),
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction"),
        ({"ss_v_parameterization": "True"}, "v_prediction"),
        ({"author": "someone"}, "epsilon"),
    ],
)
def test_metadata_say_what_is_predicted_and_at_which_size(shapes, tmp_path, metadata, predicts):
    said = {**metadata, "modelspec.resolution": "832x1216"}
    found = config_of(save_shapes(tmp_path / "m.safetensors", shapes("sd15"), said))

    assert found["scheduler"]["prediction_type"] == predicts
    assert found["unet"]["sample_size"] == [152, 104]


def test_a_configuration_beside_the_file_says_what_is_predicted(shapes, tmp_path):
    path = save_shapes(tmp_path / "m.safetensors", shapes("sd15"))
    (tmp_path / "m.yaml").write_text("model: {params: {parameterization: v}}")

    assert config_of(path)["scheduler"]["prediction_type"] == "v_prediction"
    (tmp_path / "m.yaml").write_text("other: program")
    assert config_of(path)["scheduler"]["prediction_type"] == "epsilon"
    (tmp_path / "m.yaml").write_text("model: [")
    with pytest.raises(ModelError, match=r"m\.yaml cannot be read"):
        find_model(str(path))


LORA = {"lora_unet_down_blocks_0_attentions_0.lora_down.weight": (4, 320)}
CONTROL = {"control_model.time_embed.0.weight": (8, 8)}
VAE = {"decoder.conv_in.weight": (8, 4, 3, 3), "encoder.conv_in.weight": (8, 3, 3, 3)}
UNET = {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}
FLUX = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}
TEXT = {"text_model.embeddings.position_embedding.weight": (77, 768)}
PART = {"down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3), "conv_in.weight": (8, 4, 3, 3)}


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        (LORA, "is a LoRA, not a whole model"),
        ({"unet.up_blocks.0.attn1.to_k.lora_A.weight": (4, 8)}, "is a LoRA"),
        (CONTROL, "is a ControlNet"),
        ({"emb_params": (8, 768)}, "is a textual inversion"),
        (VAE, "is a VAE alone"),
        (UNET, "is a denoiser alone"),
        (FLUX, "is a denoiser alone"),
        (TEXT, "is a text encoder alone"),
        (PART, "is a UNet of a diffusers folder alone"),
        ({"weights": (8, 8)}, "is none of the checkpoints known here"),
        ({**UNET, "cond_stage_model.transformer.text_model.a": (1,)}, "has no VAE"),
        ({**UNET, "first_stage_model.a": (1,)}, "has no text encoder"),
    ],
)
def test_what_is_no_whole_model_is_refused_with_what_it_is(tmp_path, tensors, what):
    path = save_shapes(tmp_path / "it.safetensors", tensors)

    with pytest.raises(ModelError, match=what) as caught:
        find_model(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "channels", "what"),
    [("sdxl", 9, "an inpainting variant"), ("sd15", 8, "an editing"), ("sd21", 5, "a depth")],
)
def test_variants_that_want_more_than_text_are_refused(shapes, tmp_path, kind, channels, what):
    width = shapes(kind)[CONV_IN][0]
    changed = shapes(kind) | {CONV_IN: (width, channels, 3, 3)}
    path = save_shapes(tmp_path / "inpaint.safetensors", changed)

    with pytest.raises(ModelError, match=f"{what}.*takes {channels} channels"):
        find_model(str(path))


def test_a_variant_with_another_number_of_tensors_is_refused(shapes, tmp_path):
    fewer = dict(list(shapes("sdxl").items())[40:])
    fewer[CONV_IN] = (320, 4, 3, 3)

    with pytest.raises(ModelError, match=r"looks like Stable Diffusion XL.*not 1,680"):
        find_model(str(save_shapes(tmp_path / "small.safetensors", fewer)))


def test_edm_checkpoints_are_refused(shapes, tmp_path):
    path = save_shapes(tmp_path / "playground.safetensors", shapes("sdxl", edm_mean=(4,)))

    with pytest.raises(ModelError, match="EDM noise levels"):
        find_model(str(path))


WHOLE = {"vae.decoder.a": (1,), "text_encoders.clip_l.transformer.a": (1,)}
JOINT = "model.diffusion_model.joint_blocks"


@pytest.mark.parametrize(
    ("tensors", "title", "repo"),
    [
        (
            {"model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale": (128,)},
            "FLUX.1 schnell",
            "black-forest-labs/FLUX.1-schnell",
        ),
        (
            {f"{JOINT}.0.context_block.adaLN_modulation.1.bias": (9216,)},
            "Stable Diffusion 3",
            "stabilityai/stable-diffusion-3-medium-diffusers",
        ),
        (
            {
                f"{JOINT}.0.context_block.adaLN_modulation.1.bias": (9216,),
                f"{JOINT}.37.x_block.mlp.fc1.weight": (8, 8),
            },
            "Stable Diffusion 3.5 large",
            "stabilityai/stable-diffusion-3.5-large",
        ),
    ],
)
def test_families_without_shipped_configuration_are_refused_with_how_to_fetch_it(
    tmp_path, tensors, title, repo
):
    path = save_shapes(tmp_path / "big.safetensors", {**WHOLE, **tensors})

    with pytest.raises(ModelError, match=f"is {title} in one file") as caught:
        find_model(str(path))
    assert f"hf download {repo} " in str(caught.value)
    assert f"--local-dir {tmp_path / 'big.config'}" in str(caught.value)


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "bin"])
def test_pickles_are_refused_with_the_reason_and_the_way_on(tmp_path, suffix):
    path = tmp_path / f"old.{suffix}"
    path.write_bytes(b"PK\x03\x04")

    with pytest.raises(ModelError, match=r"is a pickle, which can run code.*\.safetensors"):
        find_model(str(path))


def test_a_file_that_is_not_there_and_one_of_another_sort_are_refused(tmp_path):
    with pytest.raises(ModelError, match="there is no such file"):
        find_model(str(tmp_path / "gone.safetensors"))
    with pytest.raises(ModelError, match="there is no such file"):
        find_model("models/gone.safetensors")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"is a file, but no \.safetensors"):
        find_model(str(tmp_path / "notes.txt"))


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    folder = tmp_path / "odd.safetensors"
    folder.mkdir()

    with pytest.raises(ModelError, match=r"the folder has no model_index\.json"):
        find_model(str(folder))


def test_a_revision_is_of_the_weights_and_their_configuration_not_of_the_name(tmp_path):
    folder = save_tiny_sd(tmp_path / "folder")
    first = save_one_file(folder, tmp_path / "a.safetensors")
    second = save_one_file(folder, tmp_path / "b.safetensors")
    wanted = place_revision("a", first)
    assert place_revision("b", second) == wanted

    config = tmp_path / "b.config/scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace("epsilon", "v_prediction"))
    assert place_revision("b", second) != wanted
    with first.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\1\2\3")
    assert place_revision("a", first) != wanted


def test_the_folder_of_a_file_lasts_as_long_as_its_block(tmp_path):
    file = save_one_file(save_tiny_sd(tmp_path / "folder"), tmp_path / "a.safetensors")

    with model_folder(file) as folder:
        assert (folder / "unet/config.json").is_file()
        assert not list(folder.rglob("*.safetensors"))
    assert not folder.exists()


def test_a_strangers_file_of_the_pointers_name_points_nowhere(tmp_path):
    folder = save_tiny_sd(tmp_path / "folder")
    (folder / POINTER).write_text("/somewhere/else.safetensors")

    assert weights_of(folder) is None
    with model_folder(save_one_file(folder, tmp_path / "a.safetensors")) as made:
        assert weights_of(made) == tmp_path / "a.safetensors"


def test_a_convolution_of_an_impossible_shape_is_refused_in_one_line(shapes, tmp_path):
    path = save_shapes(tmp_path / "odd.safetensors", shapes("sd15", **{CONV_IN: (320,)}))

    with pytest.raises(ModelError, match="is no checkpoint of a family"):
        find_model(str(path))


def test_prompts_are_counted_by_the_shipped_tokenizer(shapes, tmp_path):
    facts = find_model(str(save_shapes(tmp_path / "m.safetensors", shapes("sd15"))))

    lengths = prompt_lengths(facts, ["a photo of a cat", "unbelievably photorealistic"])
    assert lengths.exact
    assert lengths.tokens == (5, 3)
    assert lengths.room == 75


def test_every_kind_that_ships_is_of_a_family_or_is_the_refiner(shapes, tmp_path):
    for kind in ("sd15", "sd21", "sdxl"):
        path = save_shapes(tmp_path / f"{kind}.safetensors", shapes(kind))
        assert find_model(str(path)).pipeline_class in FAMILIES

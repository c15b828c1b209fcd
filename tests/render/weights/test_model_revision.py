"""A model's parts come from its index, whatever its family calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdbatch.errors import ModelError
from sdbatch.render.weights import model_revision
from sdbatch.render.weights.model_facts import find_model
from sdbatch.render.weights.model_revision import (
    PARTS,
    check_shards,
    local_revision,
    parts_of,
    variant_of,
    weight_files,
    weighted_parts,
)


def index_of(pipeline, **parts):
    return {"_class_name": pipeline, "_diffusers_version": "0.42.1", **parts}


SD = index_of(
    "StableDiffusionPipeline",
    feature_extractor=["transformers", "CLIPImageProcessor"],
    image_encoder=["transformers", "CLIPVisionModelWithProjection"],
    requires_safety_checker=True,
    safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
    scheduler=["diffusers", "PNDMScheduler"],
    text_encoder=["transformers", "CLIPTextModel"],
    tokenizer=["transformers", "CLIPTokenizer"],
    unet=["diffusers", "UNet2DConditionModel"],
    vae=["diffusers", "AutoencoderKL"],
)
SD3 = index_of(
    "StableDiffusion3Pipeline",
    scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"],
    text_encoder=["transformers", "CLIPTextModelWithProjection"],
    text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
    text_encoder_3=["transformers", "T5EncoderModel"],
    tokenizer=["transformers", "CLIPTokenizer"],
    tokenizer_2=["transformers", "CLIPTokenizer"],
    tokenizer_3=["transformers", "T5TokenizerFast"],
    transformer=["diffusers", "SD3Transformer2DModel"],
    vae=["diffusers", "AutoencoderKL"],
    image_encoder=[None, None],
)
KANDINSKY = index_of(
    "KandinskyV22PriorPipeline",
    image_encoder=["transformers", "CLIPVisionModelWithProjection"],
    image_processor=["transformers", "CLIPImageProcessor"],
    prior=["diffusers", "PriorTransformer"],
    scheduler=["diffusers", "UnCLIPScheduler"],
    text_encoder=["transformers", "CLIPTextModelWithProjection"],
    tokenizer=["transformers", "CLIPTokenizer"],
)


@pytest.fixture
def folder(tmp_path):
    def make(index):
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        return tmp_path

    return make


def test_parts_of_stable_diffusion_are_what_they_were_and_in_their_order(folder):
    assert parts_of(folder(SD)) == PARTS
    assert weighted_parts(folder(SD)) == ("text_encoder", "unet", "vae")


def test_parts_of_other_families_are_those_of_their_index(folder):
    assert set(parts_of(folder(SD3))) == set(SD3) - {
        "_class_name", "_diffusers_version", "image_encoder",
    }  # fmt: skip
    assert weighted_parts(folder(SD3)) == (
        "text_encoder", "vae", "text_encoder_2", "text_encoder_3", "transformer",
    )  # fmt: skip


def test_an_image_encoder_is_read_where_the_pipeline_needs_it(folder):
    assert "image_encoder" in weighted_parts(folder(KANDINSKY))
    assert "image_processor" in parts_of(folder(KANDINSKY))
    assert "image_processor" not in weighted_parts(folder(KANDINSKY))


def test_a_name_that_leads_out_of_the_folder_is_no_part(folder):
    index = index_of("FluxPipeline", **{"../../etc": ["diffusers", "AutoencoderKL"]})

    assert parts_of(folder(index | {"vae": ["diffusers", "AutoencoderKL"]})) == ("vae",)


def test_a_folder_without_an_index_is_taken_for_stable_diffusion(tmp_path):
    assert parts_of(tmp_path) == PARTS


def test_weights_of_every_part_are_demanded(folder):
    path = folder(SD3)
    for part in weighted_parts(path):
        (path / part).mkdir()
        (path / part / "model.safetensors").write_bytes(b"")
    assert len(weight_files("m", path)) == 5

    (path / "transformer" / "model.safetensors").rename(path / "transformer" / "model.bin")
    with pytest.raises(ModelError, match=r"transformer/ has only \.bin weights.*save_pretrained"):
        weight_files("m", path)


def test_of_two_copies_of_weights_the_one_that_is_read_is_counted(folder):
    path = folder({"_class_name": "X", "vae": ["diffusers", "AutoencoderKL"]})
    (path / "vae").mkdir()
    plain, half = (
        path / "vae" / f"diffusion_pytorch_model{mark}.safetensors" for mark in ("", ".fp16")
    )
    half.write_bytes(b"half")

    assert (weight_files("m", path), variant_of(path / "vae")) == ([half], "fp16")
    plain.write_bytes(b"whole")
    assert (weight_files("m", path), variant_of(path / "vae")) == ([plain], None)


def sharded(path, *names):
    (path / "vae").mkdir()
    index = path / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(enumerate(names))}))
    for name in names[:1]:
        (path / "vae" / name).write_bytes(b"")
    return path


@pytest.mark.parametrize(
    "name", ["../../other/it.safetensors", "/etc/it.safetensors", "it.bin", "a\\b.safetensors", ""]
)
def test_a_list_of_weights_that_leads_elsewhere_is_refused(folder, name):
    path = sharded(folder({"vae": ["diffusers", "AutoencoderKL"]}), "a.safetensors", name)

    for whole in (True, False):
        with pytest.raises(ModelError, match="no file beside it"):
            check_shards("m", path, whole)


def test_a_list_whose_weights_are_not_all_here_is_refused_where_they_should_be(folder):
    path = sharded(
        folder({"vae": ["diffusers", "AutoencoderKL"]}), "a.safetensors", "b.safetensors"
    )

    check_shards("m", path, whole=False)
    with pytest.raises(ModelError, match=r"vae/ has 1 of 2 weight files, b\.safetensors is not"):
        check_shards("m", path, whole=True)
    (path / "vae" / "b.safetensors").write_bytes(b"")
    check_shards("m", path, whole=True)


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": 1}', "{"])
def test_a_damaged_list_of_weights_is_refused_in_one_line(folder, content):
    path = sharded(folder({"vae": ["diffusers", "AutoencoderKL"]}), "a.safetensors")
    (path / "vae" / "diffusion_pytorch_model.safetensors.index.json").write_text(content)

    with pytest.raises(ModelError, match=r"weight_map|cannot be read|no JSON object"):
        check_shards("m", path, whole=True)


def test_a_second_text_encoder_enters_the_hash(folder):
    path = folder(SD3)
    (path / "text_encoder_2").mkdir()
    before = local_revision("m", path)
    (path / "text_encoder_2" / "config.json").write_text("{}")

    assert local_revision("m", path) != before


def test_a_revision_of_stable_diffusion_is_hashed_over_its_parts_in_their_old_order(monkeypatch):
    facts = find_model("shapes")
    monkeypatch.setattr(
        model_revision,
        "parts_of",
        lambda _: ("tokenizer", "text_encoder", "unet", "vae", "scheduler"),
    )

    assert local_revision("shapes", Path(facts.path)) == facts.revision

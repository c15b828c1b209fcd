"""Another autoencoder: found by name, held against the model, loaded in place of its own."""

import dataclasses
import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec, VaeSpec
from sdbatch.render.loading import load_renderer
from sdbatch.render.vae import vae_choice
from sdbatch.render.vae.vae_choice import find_vae, vae_place
from sdbatch.render.weights.model_facts import find_model
from tests.render.drawing import make_row, pictures
from tests.render.one_file import VAE, save_tiny_sd, vae_names

ROWS = [make_row(index, width_px=16, height_px=16) for index in range(2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_sd(tmp_path_factory.mktemp("model") / "tiny")
    return find_model(str(folder))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A VAE with other weights and the same latents, as a folder of its own."""
    torch.manual_seed(7)
    vae = diffusers.AutoencoderKL(**VAE)
    folder = tmp_path_factory.mktemp("vae") / "other"
    vae.save_pretrained(folder)
    return folder


def draw(model, vae=None, **changes):
    spec = RenderSpec(model.name, model.path, model.revision, "float32", {"16x16": 4}, 1, vae=vae)
    return load_renderer(dataclasses.replace(spec, **changes), [])


def changed(other, folder, **config):
    shutil.copytree(other, folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | config))
    return str(folder)


def test_a_folder_takes_the_place_of_the_models_own(model, other):
    spec = find_vae(str(other), model)
    renderer = draw(model, spec)
    own = draw(model)

    found = pictures(renderer.render(ROWS))

    vae = diffusers.AutoencoderKL.from_pretrained(str(other))
    loaded = renderer.components["vae"].decoder.conv_in.weight
    assert torch.equal(loaded, vae.decoder.conv_in.weight)
    wanted = draw(model)
    wanted.components["vae"].load_state_dict(vae.state_dict())
    assert all(np.array_equal(found[key], pixels) for key, pixels in
               pictures(wanted.render(ROWS)).items())  # fmt: skip
    assert not np.array_equal(found[0], pictures(own.render(ROWS))[0])
    assert renderer.env.kernels == f"{own.env.kernels}, vae {spec.revision[:12]}"


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", None])
def test_a_single_file_in_either_layout_gives_the_same_pictures(model, other, tmp_path, prefix):
    vae = diffusers.AutoencoderKL.from_pretrained(str(other))
    tensors = vae.state_dict()
    if prefix is not None:
        tensors = {f"{prefix}{name}": value for name, value in vae_names(vae).items()}
    file = tmp_path / "other.safetensors"
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)

    spec = find_vae(str(file), model)

    wanted = pictures(draw(model, find_vae(str(other), model)).render(ROWS))
    found = pictures(draw(model, spec).render(ROWS))
    assert all(np.array_equal(found[key], wanted[key]) for key in wanted)


def test_a_whole_model_lends_its_autoencoder(model, tmp_path):
    spec = find_vae(model.path, model)

    assert spec is not None
    assert Path(spec.path) == Path(model.path) / "vae"


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"latent_channels": 16}, "has 16 latent channels, not the 4 of model"),
        ({"block_out_channels": [8, 16, 16]}, "has 4 pixels a latent cell, not the 2 of model"),
        ({"scaling_factor": 0.13025}, "has 0.13025 as scaling factor, not the 0.18215 of model"),
        ({"shift_factor": 0.1}, "has 0.1 as shift factor, not the 0.0 of model"),
        ({"_class_name": "AutoencoderTiny"}, "is of class AutoencoderTiny, not the"),
    ],
)
def test_other_latents_are_refused_from_the_configuration(model, other, tmp_path, config, wrong):
    name = changed(other, tmp_path / "vae", **config)

    with pytest.raises(ModelError, match=wrong):
        find_vae(name, model)


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"latent_channels": 8}, "has 8 latent channels, not the 4"),
        ({"block_out_channels": (8, 32)}, "has 32 channels in its widest layer, not the 16"),
        (
            {"block_out_channels": (8, 8, 16), "down_block_types": ("DownEncoderBlock2D",) * 3,
             "up_block_types": ("UpDecoderBlock2D",) * 3},
            "has 4 pixels a latent cell, not the 2",
        ),
    ],
)  # fmt: skip
def test_other_latents_are_refused_from_a_files_shapes(model, tmp_path, changes, wrong):
    vae = diffusers.AutoencoderKL(**(VAE | changes))
    file = tmp_path / "vae.safetensors"
    save_file(vae_names(vae), file)

    with pytest.raises(ModelError, match=wrong):
        find_vae(str(file), model)


def test_what_is_no_autoencoder_is_refused_in_one_line(model, tmp_path):
    (tmp_path / "vae.ckpt").touch()
    save_file({"lora.weight": torch.zeros(2)}, tmp_path / "lora.safetensors")
    (tmp_path / "folder").mkdir()
    for name, wrong in (
        ("vae.ckpt", "a pickle can run code when opened: take a .safetensors"),
        ("lora.safetensors", "has no decoder.conv_in.weight"),
        ("folder", "has no config.json"),
        ("gone", "is no folder, no .safetensors file and no id on the Hub"),
    ):
        with pytest.raises(ModelError, match=wrong) as refused:
            find_vae(str(tmp_path / name), model)
        assert "\n" not in str(refused.value)


def test_a_model_without_an_autoencoder_takes_none():
    with pytest.raises(ModelError, match="model fake has no autoencoder"):
        find_vae("anything", find_model("fake"))


def test_a_worker_wants_the_planned_revision(model, other, tmp_path):
    spec = find_vae(str(shutil.copytree(other, tmp_path / "vae")), model)
    assert vae_place(spec) == Path(spec.path)
    assert find_vae(str(other), model).revision == spec.revision  # wherever it lies

    changed_config = json.loads(Path(spec.path, "config.json").read_text()) | {"act_fn": "relu"}
    Path(spec.path, "config.json").write_text(json.dumps(changed_config))
    with pytest.raises(ModelError, match="the plan wants"):
        vae_place(spec)


def test_an_id_of_the_hub_is_known_by_its_commit(model, other, tmp_path, monkeypatch):
    commit = "c" * 40
    cached = tmp_path / "snapshots" / commit
    cached.parent.mkdir()
    shutil.copytree(other, cached)
    asked = []

    def snapshot(address, weights=True):
        asked.append((str(address), weights))
        return cached

    monkeypatch.setattr(vae_choice, "vae_snapshot", snapshot)

    spec = find_vae("org/vae", model)

    assert spec == VaeSpec("org/vae", str(cached), commit)
    assert vae_place(spec) == cached
    assert asked == [("org/vae", False), (f"org/vae@{commit}", True)]

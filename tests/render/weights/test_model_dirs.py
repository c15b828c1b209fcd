"""Bare names in the folders of A1111 and ComfyUI."""

import os

import pytest

from sdbatch.errors import ModelError
from sdbatch.render.weights.local_model import local_model
from sdbatch.render.weights.model_dirs import found_models, models_dirs, near_names, resolve_name


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.fixture
def a1111(tmp_path):
    home = tmp_path / "stable-diffusion-webui"
    touch(home / "models/Stable-diffusion/anime/dreamy.safetensors")
    touch(home / "models/Stable-diffusion/v1-5-pruned.safetensors")
    touch(home / "models/Stable-diffusion/old.ckpt")
    touch(home / "models/Stable-diffusion/.hidden.safetensors")
    touch(home / "models/Lora/style.safetensors")
    touch(home / "models/VAE/vae-ft-mse.safetensors")
    return home


@pytest.fixture
def comfyui(tmp_path):
    home = tmp_path / "ComfyUI"
    touch(home / "models/checkpoints/SDXL/base_1.0.safetensors")
    touch(home / "models/diffusers/tiny/model_index.json")
    touch(home / "models/diffusers/tiny/unet/weights.safetensors")
    touch(home / "models/loras/style.safetensors")
    return home


def test_an_a1111_folder_is_read_for_checkpoints_alone(a1111):
    assert [(name, kind) for name, _, kind in found_models(a1111)] == [
        ("anime/dreamy.safetensors", "file"),
        ("old.ckpt", "pickle"),
        ("v1-5-pruned.safetensors", "file"),
    ]


def test_a_comfyui_folder_has_files_and_diffusers_folders(comfyui):
    assert [(name, kind) for name, _, kind in found_models(comfyui)] == [
        ("SDXL/base_1.0.safetensors", "file"),
        ("tiny", "folder"),
    ]


def test_the_models_folder_and_the_shelf_itself_may_be_named_as_well(comfyui):
    below = comfyui / "models"

    assert list(found_models(below)) == list(found_models(comfyui))
    assert [name for name, _, _ in found_models(below / "checkpoints")] == [
        "SDXL/base_1.0.safetensors"
    ]


@pytest.mark.parametrize(
    "name",
    ["dreamy", "dreamy.safetensors", "anime/dreamy", "Dreamy", "ANIME/DREAMY.SafeTensors"],
)
def test_a_name_is_found_in_either_case_with_or_without_its_extension(a1111, name):
    found = resolve_name(name, a1111)

    assert found == a1111 / "models/Stable-diffusion/anime/dreamy.safetensors"


def test_a_name_with_a_dot_is_no_extension(comfyui):
    assert resolve_name("base_1.0", comfyui) is not None
    assert resolve_name("base_1", comfyui) is None


def test_a_name_in_two_folders_is_refused_with_both(a1111):
    touch(a1111 / "models/Stable-diffusion/photo/dreamy.safetensors")

    with pytest.raises(ModelError, match=r"could be .*anime/dreamy.*, .*photo/dreamy.*by its path"):
        resolve_name("dreamy", a1111)
    assert resolve_name("photo/dreamy", a1111).parent.name == "photo"


def test_the_very_letters_win_over_other_cases(a1111):
    shelf = a1111 / "models/Stable-diffusion"
    touch(shelf / "photo/DREAMY.safetensors")

    assert resolve_name("DREAMY", a1111).parent.name == "photo"
    with pytest.raises(ModelError, match="could be"):
        resolve_name("Dreamy", a1111)


def test_a_safetensors_file_wins_over_a_pickle_of_its_name(a1111):
    new = touch(a1111 / "models/Stable-diffusion/old.safetensors")

    assert resolve_name("old", a1111) == new
    assert resolve_name("old.ckpt", a1111).suffix == ".ckpt"


def test_links_are_followed_and_a_circle_ends(a1111, comfyui):
    shelf = a1111 / "models/Stable-diffusion"
    os.symlink(comfyui / "models/checkpoints", shelf / "comfy")
    os.symlink(shelf, shelf / "again")

    assert resolve_name("base_1.0", a1111) is not None
    assert len(list(found_models(a1111))) == 4


def test_a_folder_that_may_not_be_read_hides_no_other(a1111, monkeypatch):
    closed = a1111 / "models/Stable-diffusion/lost+found"
    closed.mkdir()
    before = os.stat

    def stat(path, **options):
        if str(path).startswith(f"{closed}{os.sep}"):
            raise PermissionError(13, "Permission denied", str(path))
        return before(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(PermissionError):
        (closed / "x").is_file()
    assert list(found_models(a1111))
    assert local_model("lost+found/x", str(a1111)) is None


def test_a_name_that_is_too_long_for_a_disk_is_no_model_here():
    assert local_model("x" * 5000) is None


def test_a_config_folder_beside_a_file_is_no_model(a1111):
    touch(a1111 / "models/Stable-diffusion/anime/dreamy.config/model_index.json")

    assert resolve_name("dreamy.config", a1111) is None
    assert resolve_name("dreamy", a1111).name == "dreamy.safetensors"


def test_near_names_are_of_all_folders(a1111, comfyui):
    assert near_names("dreamie", [comfyui, a1111]) == ["anime/dreamy.safetensors"]
    assert near_names("zzzz", [comfyui, a1111]) == []


def test_the_folder_named_comes_before_the_environments(a1111, comfyui, monkeypatch):
    monkeypatch.setenv("SDBATCH_MODELS", str(comfyui))

    assert models_dirs(str(a1111)) == [a1111, comfyui]
    assert models_dirs() == [comfyui]
    monkeypatch.delenv("SDBATCH_MODELS")
    assert models_dirs() == []


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"--models-dir .*nowhere: is no folder"):
        models_dirs(str(tmp_path / "nowhere"))


def test_a_folder_of_no_models_has_none(tmp_path):
    assert list(found_models(tmp_path)) == []
    assert list(found_models(tmp_path / "nowhere")) == []

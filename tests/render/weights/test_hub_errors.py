"""What a mirror or a disk refuses is said without secrets and with the way on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from sdbatch.errors import ModelError, ModelUnreachableError
from sdbatch.render.weights.model_facts import find_model
from tests.render.fake_hub import asked_here

NAME = "org/shapes"
SHAPES = Path(__file__).parents[3] / "sdbatch" / "models" / "shapes"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that this process asks, with an empty cache."""
    with asked_here(tmp_path / "home", monkeypatch) as server:
        yield server


def test_a_password_of_a_mirror_is_shown_to_nobody(hub, monkeypatch):
    host = hub.endpoint.removeprefix("http://")
    for mirror in (f"http://me:verysecret@{host}", "http://me:verysecret@127.0.0.1:9"):
        monkeypatch.setattr(constants, "ENDPOINT", mirror)
        with pytest.raises(ModelError) as caught:
            find_model("org/gone")

        assert "verysecret" not in str(caught.value)


@pytest.mark.parametrize("closed", ["HF_HUB_CACHE", "HF_ASSETS_CACHE"])
def test_a_cache_that_cannot_be_written_is_said_with_where_another_is_set(
    hub, tmp_path, monkeypatch, closed
):
    folder = shutil.copytree(SHAPES, tmp_path / "served")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name(f"{weights.stem}.fp16.safetensors"))
    hub.repo(NAME, folder)
    (tmp_path / "a file").write_text("")
    monkeypatch.setattr(constants, closed, str(tmp_path / "a file"))

    with pytest.raises(ModelUnreachableError, match=r"set HF_(HOME|ASSETS_CACHE) to") as caught:
        find_model(NAME)
    assert "\n" not in str(caught.value)
    assert "cannot be reached" not in str(caught.value)

"""Half numbers are trusted on some devices only after they gave finite ones."""

from __future__ import annotations

import shutil

import pytest
import torch

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render import diffusers_folder, half_probe
from sdbatch.render.families import sd
from sdbatch.render.half_probe import demand_half, is_finite
from sdbatch.render.loading import load_renderer

CPU = torch.device("cpu")


def halves(folder, part=""):
    """The rooms of a folder in float16, one part's last weights far too large."""
    rooms = sd.load(folder, CPU, torch.float16)
    parts = {"text_encoder": "text_encoder", "unet": "unet", "vae": "vae"}
    if part:
        module = rooms.components[parts[part]]
        name, weights = [(n, p) for n, p in module.named_parameters() if p.dim() > 1][-1]
        assert name
        weights.data.fill_(60_000.0)
    return rooms


@pytest.fixture
def folder(shapes):
    from pathlib import Path

    return Path(shapes.path)


def test_a_sound_model_holds_in_half(folder):
    assert is_finite(halves(folder))


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_each_room_that_overflows_is_found(folder, part):
    assert not is_finite(halves(folder, part))


def test_only_devices_that_spoil_halves_are_asked(folder):
    spoiled = halves(folder, "unet")

    assert demand_half("auto", "float16", CPU, spoiled, "m") == "float16"
    assert demand_half("auto", "float32", torch.device("mps"), spoiled, "m") == "float32"
    assert demand_half("auto", "float16", torch.device("mps"), spoiled, "m") == "float32"
    with pytest.raises(ModelError, match="model m: float16 gives NaN on mps, use --dtype float32"):
        demand_half("float16", "float16", torch.device("mps"), spoiled, "m")


@pytest.fixture
def spoiling(monkeypatch):
    """This CPU as a device whose `auto` is half, and which spoils it."""
    monkeypatch.setattr(half_probe, "PROBED", frozenset({"cpu"}))
    monkeypatch.setattr(half_probe, "is_finite", lambda _: False)

    def half(asked, _device):
        return "float16" if asked == "auto" else asked

    monkeypatch.setattr(diffusers_folder, "choose_dtype", half)


@pytest.mark.usefixtures("spoiling")
def test_a_model_that_gives_nan_is_loaded_again_in_float32_with_a_note(shapes):
    spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", {"64x64": 2}, 1)
    renderer = load_renderer(spec, [])

    assert renderer.env.dtype == "float32"
    assert "float16 gives NaN on cpu: drawing in float32" in renderer.notes


@pytest.mark.usefixtures("spoiling")
def test_half_that_was_asked_for_is_refused(shapes, tmp_path):
    copy = shutil.copytree(shapes.path, tmp_path / "m")
    spec = RenderSpec("m", str(copy), "", "float16", {"64x64": 2}, 1)

    with pytest.raises(ModelError, match="use --dtype float32"):
        load_renderer(spec, [])

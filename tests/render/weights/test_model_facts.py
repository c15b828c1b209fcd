"""A model is known from its files, without torch, or refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.loading import load_renderer
from sdbatch.render.weights.model_facts import find_model


@pytest.fixture
def copy(shapes, tmp_path):
    """A copy of the embedded model under another name."""
    return shutil.copytree(shapes.path, tmp_path / "copied")


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_embedded_model_has_the_settings_that_suit_it(shapes):
    defaults = shapes.defaults

    assert (defaults.width, defaults.height) == (64, 64)
    assert (defaults.num_inference_steps, defaults.guidance_scale) == (12, 3.0)
    assert defaults.scheduler == "DPMSolverMultistepScheduler"
    assert shapes.sources["num_inference_steps"] == "model shapes"
    assert set(shapes.sources) == set(type(defaults).__slots__) - {"true_cfg_scale"}
    assert defaults.true_cfg_scale is None
    assert {"circle", "red", "striped", "left", "huge"} <= shapes.words
    assert shapes.size_multiple_px == 8
    assert shapes.size_bytes > 9_000_000


def test_a_folder_takes_its_settings_from_its_config_and_its_family(copy):
    facts = find_model(str(copy))

    assert (facts.defaults.width, facts.defaults.num_inference_steps) == (64, 50)
    assert facts.sources["width"] == "its config"
    assert facts.sources["guidance_scale"] == "family sd"
    assert facts.pipeline_class == "StableDiffusionPipeline"


def test_equal_folders_have_one_revision_wherever_they_lie(shapes, copy):
    assert find_model(str(copy)).revision == shapes.revision


@pytest.mark.parametrize("offset", [0, -1])
def test_a_changed_weight_changes_the_revision(shapes, copy, offset):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[offset] ^= 1
    weights.write_bytes(content)

    assert find_model(str(copy)).revision != shapes.revision


def test_a_readme_does_not_change_the_revision(shapes, copy):
    (copy / "README.md").write_text("hello")

    assert find_model(str(copy)).revision == shapes.revision


def test_the_home_of_models_is_looked_at_by_name(copy, monkeypatch):
    monkeypatch.setenv("SDBATCH_MODELS", str(copy.parent))

    assert find_model("copied").path == str(copy)


def test_only_the_options_that_change_pixels_are_in_a_fakes_revision():
    assert find_model("fake").revision == find_model("fake:ms=5").revision
    assert find_model("fake").revision != find_model("fake:fail=0.5").revision
    assert find_model("fake").path.startswith("fake:")


def break_nothing_but(copy, fault):
    if fault == "pickles":
        weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
    elif fault == "no weights":
        (copy / "text_encoder" / "model.safetensors").unlink()
    elif fault == "no tokenizer":
        shutil.rmtree(copy / "tokenizer")
    elif fault == "no index":
        (copy / "model_index.json").unlink()
    elif fault == "broken json":
        (copy / "unet" / "config.json").write_text("{")
    elif fault == "another pipeline":
        rewrite(copy / "model_index.json", _class_name="FluxFillPipeline")
    elif fault == "inpainting":
        rewrite(copy / "unet" / "config.json", in_channels=9)
    else:
        rewrite(copy / "unet" / "config.json", time_cond_proj_dim=256)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("pickles", "vae/ has only .bin weights"),
        ("no weights", "text_encoder/ has no .safetensors"),
        ("no tokenizer", "no tokenizer/"),
        ("no index", "no model_index.json"),
        ("broken json", "config.json cannot be read"),
        ("another pipeline", "FluxFillPipeline draws from a picture: needs image"),
        ("inpainting", "takes 9 channels"),
        ("distilled", "embeds guidance"),
    ],
)
def test_a_model_that_cannot_be_drawn_with_is_refused_in_one_line(copy, fault, text):
    break_nothing_but(copy, fault)

    with pytest.raises(ModelError, match=text) as caught:
        find_model(str(copy))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [("shape", "did you mean 'shapes'"), ("/no/such/folder", "neither known nor")],
)
def test_an_unknown_name_is_refused_with_the_ways_on(name, text):
    with pytest.raises(ModelError, match=text):
        find_model(name)


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids asking") as caught:
        find_model("no-such-org-here/no-such-model")

    assert "\n" not in str(caught.value)


@pytest.mark.render
def test_damaged_weights_are_a_model_error(copy):
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    with pytest.raises(ModelError, match="cannot be loaded"):
        load_renderer(RenderSpec("copied", str(copy), "", "auto", {}, 1), [])


@pytest.mark.render
def test_an_unknown_number_format_is_a_model_error(shapes):
    with pytest.raises(ModelError, match="float8"):
        load_renderer(RenderSpec("shapes", shapes.path, "", "float8", {}, 1), [])


def test_facts_are_found_without_torch():
    code = (
        "import sys\n"
        "from sdbatch.render.weights.model_facts import find_model\n"
        "find_model('shapes')\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers')))\n"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

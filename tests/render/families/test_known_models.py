"""Published models: a short name finds the right one, and what is said of it holds together."""

from __future__ import annotations

import json
import shutil

import pytest

from sdbatch.errors import ModelError
from sdbatch.plan.facts import DRAWABLE, OPTIONS
from sdbatch.render.families.known_memory import (
    CARDS_GB,
    NONE,
    OFFLOAD,
    RESIDENT,
    ROOMS,
    known_rows,
    memory_mode,
)
from sdbatch.render.families.known_models import MODELS, SHORT, find_known, known_settings
from sdbatch.render.weights import model_facts
from sdbatch.render.weights.folder_facts import folder_facts
from sdbatch.render.weights.model_facts import find_model


@pytest.fixture
def hub(shapes, tmp_path, monkeypatch):
    """The Hub, holding the embedded model under every id; asked ids in order."""
    asked = []
    folder = shutil.copytree(shapes.path, tmp_path / "c0ffee")

    def fetched_facts(repo, _need):
        asked.append(repo)
        return folder_facts(repo, folder, "c0ffee")

    monkeypatch.setattr(model_facts, "fetched_facts", fetched_facts)
    return asked


def test_a_short_name_is_fetched_and_recorded_under_its_id_on_the_hub(hub):
    facts = find_model("sdxl-turbo")

    assert hub == ["stabilityai/sdxl-turbo"]
    assert facts.name == "stabilityai/sdxl-turbo"
    assert (facts.defaults.num_inference_steps, facts.defaults.guidance_scale) == (4, 0.0)
    assert (facts.defaults.width, facts.defaults.height) == (512, 512)
    assert facts.sources["num_inference_steps"] == "model sdxl-turbo"
    assert facts.sources["scheduler"] == "its config"


def test_a_missing_published_model_is_named_both_ways(monkeypatch):
    def gone(repo, _need):
        raise ModelError(f"model {repo}: cannot be fetched")

    monkeypatch.setattr(model_facts, "fetched_facts", gone)

    with pytest.raises(
        ModelError, match=r"^sd35-medium: model stabilityai/stable-diffusion-3.5-med"
    ):
        find_model("sd35-medium")


def test_a_folder_of_a_short_name_wins_only_where_models_are_kept(
    shapes, hub, tmp_path, monkeypatch
):
    shutil.copytree(shapes.path, tmp_path / "here" / "sd15")
    monkeypatch.chdir(tmp_path / "here")

    assert find_model("sd15").name == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert find_model("./sd15").name == "./sd15"

    monkeypatch.setenv("SDBATCH_MODELS", str(tmp_path / "here"))
    facts = find_model("sd15")
    assert (facts.name, facts.sources["num_inference_steps"]) == ("sd15", "model sd15")
    assert len(hub) == 1


def test_a_copy_under_its_own_name_keeps_its_settings():
    for name in (
        "/m/sdxl-turbo",
        "C:\\models\\FLUX.1-schnell\\",
        "sdxl_lightning_4step.safetensors",
    ):
        assert known_settings(name)[0].num_inference_steps == 4
    assert known_settings("/m/my-own-model") is None
    assert known_settings("shapes")[1] == "model shapes"


def test_a_model_that_is_one_file_is_asked_for_by_that_file(monkeypatch):
    asked = []
    monkeypatch.setattr(model_facts, "find_model", lambda name, _need: asked.append(name))
    find_model("sdxl-lightning")

    assert asked == ["ByteDance/SDXL-Lightning/sdxl_lightning_4step.safetensors"]
    assert known_settings(asked[0]) == known_settings("sdxl-lightning")


def test_a_slip_of_a_short_name_is_answered_with_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'flux-schnell'"):
        find_model("flux-schnel")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.short)
def test_what_is_said_of_a_model_holds_together(model):
    settings = model.settings
    assert find_known(model.short) is find_known(model.repo) is SHORT[model.short]
    assert model.repo.count("/") == 1
    assert model.steps[0] <= settings.num_inference_steps <= model.steps[1]
    assert settings.guidance_scale <= model.max_guidance
    assert model.licence_url.startswith("https://")
    assert settings.width % 8 == settings.height % 8 == 0
    # Stored in two, or in four bytes each: text encoder and denoiser need not be alike.
    params = sum(model.params)
    assert 2 * params * 0.97 <= model.download_gb <= 4 * params * 1.03
    if settings.scheduler:
        assert settings.scheduler in DRAWABLE
        config = json.loads(settings.scheduler_config)
        assert set(config) <= OPTIONS[settings.scheduler]


def test_memory_follows_the_rule():
    modes = {model.short: [memory_mode(model, card) for card in CARDS_GB] for model in MODELS}

    assert modes["sd15"] == [RESIDENT] * 4
    assert modes["sdxl"] == [ROOMS, RESIDENT, RESIDENT, RESIDENT]
    assert modes["sd35-large"] == [OFFLOAD, OFFLOAD, OFFLOAD, ROOMS]
    assert modes["flux-dev"] == [OFFLOAD] * 4
    assert memory_mode(SHORT["flux-dev"], 48) == RESIDENT
    assert memory_mode(SHORT["flux-dev"], 4) == NONE


def test_the_table_has_a_row_a_model_and_plain_values():
    rows = known_rows()

    assert [row["model"] for row in rows] == list(SHORT)
    assert len(rows) >= 15
    assert json.loads(json.dumps(rows))[0]["memory"]["8"] == RESIDENT
    assert {row["model"] for row in rows if row["gated"]} >= {"flux-dev", "flux-schnell"}

"""The planned weights are found where they lie, or refused with the way to them."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sdbatch.engine import planned_model
from sdbatch.engine.planned_model import load_planned
from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.weights.model_facts import find_model
from tests.render.fake_hub import asked_here

REPO = "org/name"
SHAPES = Path(__file__).parents[2] / "sdbatch" / "models" / "shapes"


@pytest.fixture
def loaded(monkeypatch):
    """Replaces loading by the spec that would be loaded."""
    monkeypatch.setattr(planned_model, "load_renderer", lambda spec, sizes: spec)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub whose main branch has moved on since a plan was made; nothing is cached."""
    with asked_here(tmp_path / "home", monkeypatch) as server:
        repo = server.repo(REPO, SHAPES)
        server.old = repo.branches["main"]
        later = shutil.copytree(SHAPES, tmp_path / "later")
        (later / "words.txt").write_text("later")
        server.new = repo.push(later)
        yield server


def planned(path, revision):
    return RenderSpec(REPO, str(path), revision, "bfloat16", {"64x64": 16}, 2)


def test_everything_but_the_place_comes_from_the_plan(hub, loaded):
    spec = load_planned(planned("gone", hub.new))

    assert spec == replace(planned("gone", hub.new), model_path=spec.model_path)
    assert Path(spec.model_path).name == hub.new


def test_an_older_commit_is_fetched_when_it_is_not_here(hub, loaded):
    find_model(REPO)
    spec = load_planned(planned("gone", hub.old))

    assert Path(spec.model_path).name == hub.old
    assert find_model(REPO).revision == hub.new


def test_an_older_commit_is_taken_from_the_cache_when_it_is_there(hub, loaded):
    find_model(f"{REPO}@{hub.old}")
    asked = len(hub.requests)

    assert Path(load_planned(planned("gone", hub.old)).model_path).name == hub.old
    assert len(hub.requests) == asked


def test_a_commit_that_nobody_has_is_named_with_its_download(hub, loaded):
    gone = "a" * 40
    said = rf"has no revision '{gone}'.*`sdbatch models fetch {REPO} --revision {gone}`"
    with pytest.raises(ModelError, match=said) as caught:
        load_planned(planned("gone", gone))

    assert "\n" not in str(caught.value)


def test_half_a_snapshot_where_the_driver_had_a_whole_one_is_completed(hub, loaded):
    path = Path(find_model(REPO).path)
    (path / "vae" / "diffusion_pytorch_model.safetensors").unlink()

    assert load_planned(planned(path, hub.new)).model_path == str(path)
    assert (path / "vae" / "diffusion_pytorch_model.safetensors").is_file()


def test_a_snapshot_in_a_folder_that_all_nodes_share_is_used_as_it_is(hub, loaded, tmp_path):
    (tmp_path / hub.old).mkdir()

    assert load_planned(planned(tmp_path / hub.old, hub.old)).model_path == str(tmp_path / hub.old)
    assert hub.requests == []


def test_a_model_that_is_gone_is_said_with_the_way_on():
    spec = RenderSpec("./gone", "/gone", "c" * 64, "auto", {}, 1)

    with pytest.raises(ModelError, match=r"lay in /gone .* old weights with --model"):
        load_planned(spec)


@pytest.mark.parametrize("name", [REPO, "it"])
def test_the_hub_is_not_asked_for_the_name_of_a_local_model(hub, name):
    spec = RenderSpec(name, "/gone", "c" * 64, "auto", {}, 1)

    with pytest.raises(ModelError, match=r"set SDBATCH_MODELS on each"):
        load_planned(spec)
    assert hub.requests == []


def test_a_local_model_is_found_by_its_name_where_another_node_keeps_it(
    loaded, tmp_path, monkeypatch
):
    kept = shutil.copytree(SHAPES, tmp_path / "kept")
    monkeypatch.setenv("SDBATCH_MODELS", str(tmp_path))
    spec = RenderSpec("kept", "/elsewhere/kept", find_model(str(kept)).revision, "auto", {}, 1)

    assert load_planned(spec).model_path == str(kept)

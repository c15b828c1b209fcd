"""The planned weights are found where they lie, or refused with the way to them."""

from dataclasses import replace

import pytest

from sdbatch.engine import planned_model
from sdbatch.engine.planned_model import load_planned
from sdbatch.errors import ModelError
from sdbatch.records import RenderSpec
from sdbatch.render.model_facts import find_model

OLD, NEW = "a" * 40, "b" * 40
REPO = "org/name"


@pytest.fixture
def loaded(monkeypatch):
    """Replaces loading by the spec that would be loaded."""
    monkeypatch.setattr(planned_model, "load_renderer", lambda spec, sizes: spec)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the Hub whose main branch is at the new commit."""
    (tmp_path / NEW).mkdir()
    facts = replace(find_model("fake"), name=REPO, path=str(tmp_path / NEW), revision=NEW)
    monkeypatch.setattr(planned_model, "find_model", lambda name: facts)
    return tmp_path


def planned(path, revision):
    return RenderSpec(REPO, str(path), revision, "bfloat16", {"64x64": 16}, 2)


def test_everything_but_the_place_comes_from_the_plan(hub, loaded):
    spec = load_planned(planned("gone", NEW))

    assert spec == replace(planned("gone", NEW), model_path=str(hub / NEW))


def test_an_older_commit_is_taken_from_the_cache_when_it_is_there(hub, loaded):
    (hub / OLD).mkdir()

    assert load_planned(planned("gone", OLD)).model_path == str(hub / OLD)


def test_an_older_commit_that_is_not_there_is_named_with_its_download(hub, loaded):
    said = rf"is revision {NEW[:12]}, .* `hf download {REPO} --revision {OLD}`"
    with pytest.raises(ModelError, match=said) as caught:
        load_planned(planned("gone", OLD))

    assert "\n" not in str(caught.value)


def test_a_snapshot_that_still_lies_where_it_did_is_used_as_it_is(hub, loaded):
    (hub / OLD).mkdir()

    assert load_planned(planned(hub / OLD, OLD)).model_path == str(hub / OLD)


def test_a_model_that_is_gone_is_said_with_the_way_on():
    spec = RenderSpec("./gone", "/gone", "c" * 64, "auto", {}, 1)

    with pytest.raises(ModelError, match=r"neither known nor .* old weights with --model"):
        load_planned(spec)

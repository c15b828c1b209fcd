"""The planned weights are loaded, or nothing is."""

from __future__ import annotations

import dataclasses

import pytest

from sdbatch.errors import ModelError
from sdbatch.model_specs import RenderSpec
from sdbatch.render.loading import load_renderer

pytestmark = pytest.mark.render


@pytest.fixture
def spec(shapes):
    return RenderSpec("shapes", shapes.path, shapes.revision, "auto", {}, 1)


def test_what_was_auto_is_settled_and_said(spec):
    renderer = load_renderer(spec, [(64, 64), (256, 256)])

    assert renderer.lanes == {"64x64": 16, "256x256": 2}
    assert renderer.env.dtype == "float32"
    assert renderer.env.device in ("cpu", "cuda")
    assert "threads 1" in renderer.env.kernels
    assert renderer.counters.phase_seconds["load"] > 0


def test_lanes_of_the_plan_are_kept(spec):
    renderer = load_renderer(dataclasses.replace(spec, lanes={"64x64": 6}), [(64, 64)])

    assert renderer.lanes == {"64x64": 6}


def test_a_model_that_lies_elsewhere_on_this_machine_is_found_by_name(spec):
    renderer = load_renderer(dataclasses.replace(spec, model_path="/not/on/this/node"), [])

    assert renderer.env.pipeline_class == "StableDiffusionPipeline"


@pytest.mark.parametrize("revision", ["0" * 64, "0" * 40])
def test_weights_of_another_revision_are_refused(spec, revision):
    with pytest.raises(ModelError, match="the plan wants 000000000000"):
        load_renderer(dataclasses.replace(spec, model_revision=revision), [])


def test_loading_says_nothing_on_the_terminal(spec, capfd):
    load_renderer(spec, [])

    assert capfd.readouterr() == ("", "")

"""The facts that plans are made with are those of the diffusers that is installed."""

import json

import diffusers

from sdbatch.render.families.any_pipeline import PIPELINES, is_whole
from sdbatch.render.families.table import FAMILIES
from sdbatch.render.pipelines.pipeline_facts import pipeline_facts


def test_the_facts_are_what_diffusers_says_today():
    found = json.loads(json.dumps(pipeline_facts()))
    not_here = PIPELINES.keys() - found.keys()
    assert found == {name: PIPELINES[name] for name in PIPELINES.keys() - not_here}
    # A class may lack its optional library on the machine that runs this.
    assert all(hasattr(getattr(diffusers, name), "_backends") for name in not_here)


def test_every_way_and_reason_is_told_apart():
    reasons = {name: fact.get("reason", "") for name, fact in PIPELINES.items()}
    assert PIPELINES["Lumina2Pipeline"]["way"] == "text"
    assert PIPELINES["DDPMPipeline"]["way"] == "nothing"
    assert PIPELINES["DiTPipeline"]["way"] == "class"
    assert reasons["StableDiffusionUpscalePipeline"] == "draws from a picture: needs image"
    assert reasons["FluxControlPipeline"] == "draws from a picture: needs control_image"
    assert reasons["WanPipeline"] == "draws no picture but video"
    assert reasons["AudioLDM2Pipeline"] == "draws no picture but sound"
    assert reasons["KandinskyV22PriorPipeline"] == "its output holds no pictures"
    assert reasons["KandinskyV22Pipeline"].startswith("needs image_embeds and")


def test_a_pipeline_that_may_be_given_a_picture_is_still_one_for_text():
    assert PIPELINES["Flux2Pipeline"]["way"] == "text"


def test_families_keep_their_lanes():
    assert FAMILIES.keys() <= PIPELINES.keys()
    assert not any(is_whole(name) for name in FAMILIES)
    assert not is_whole("FakePipeline")

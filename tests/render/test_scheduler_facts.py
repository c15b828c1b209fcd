"""What planning believes of schedulers is what the schedulers do."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from sdbatch.plan.facts import FACTS, grouped_notes, row_untabled, untabled_reason
from sdbatch.render.scheduler_facts import scheduler_facts
from sdbatch.render.solvers import Solvers, Untabled
from tests.render.drawing import make_row

pytestmark = pytest.mark.render


@pytest.fixture(scope="module")
def made_now():
    return scheduler_facts()


def test_the_stored_facts_are_those_of_the_installed_diffusers(made_now):
    stored = json.loads(files("sdbatch.plan").joinpath("facts.json").read_text())

    assert stored == made_now


def test_tabled_grouped_and_unfit_are_told_apart(made_now, monkeypatch):
    linear = made_now["LMSDiscreteScheduler"]
    assert (linear["way"], linear["kind"], linear["history"]) == ("tabled", "diffusion", 4)
    assert "use_karras_sigmas" in linear["options"]
    assert made_now["RePaintScheduler"]["way"] == "unfit"
    assert "'mask'" in made_now["RePaintScheduler"]["reason"]
    assert made_now["FlowMatchEulerDiscreteScheduler"]["kind"] == "flow"
    assert made_now["VQDiffusionScheduler"]["kind"] == "other"
    assert made_now["DDIMInverseScheduler"]["reason"] == "runs from a picture to noise"
    assert all(fact["reason"] for fact in made_now.values() if fact["way"] == "unfit")


def test_a_scheduler_that_is_never_a_table_is_grouped(monkeypatch):
    from sdbatch.render import scheduler_facts as module

    monkeypatch.setitem(module.BASE, "thresholding", True)

    found = scheduler_facts(["DEISMultistepScheduler"])["DEISMultistepScheduler"]

    assert found["way"] == "grouped"
    assert found["reason"].startswith("step 0 differs")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DDIMScheduler", {"clip_sample": True}),
        ("DDIMScheduler", {"clip_sample": False}),
        ("DDIMScheduler", {}),
        ("DPMSolverMultistepScheduler", {"thresholding": True}),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
        ("PNDMScheduler", {"skip_prk_steps": False}),
        ("PNDMScheduler", {"skip_prk_steps": True}),
        ("PNDMScheduler", {}),
        ("EulerDiscreteScheduler", {"rescale_betas_zero_snr": True}),
    ],
)
def test_a_plan_foresees_which_way_a_row_goes(name, config):
    model_config = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
    row = make_row(0, scheduler=name, scheduler_config=json.dumps(config), num_inference_steps=6)

    drawn_in_groups = isinstance(Solvers(model_config).find(row), Untabled)

    assert bool(untabled_reason(name, {**model_config, **config})) == drawn_in_groups


def test_a_row_says_itself_when_it_is_no_table():
    assert row_untabled("DDIMScheduler", '{"clip_sample":true}')
    assert not row_untabled("DDIMScheduler", '{"clip_sample":false}')
    assert not row_untabled("DDIMScheduler", "")
    assert not row_untabled("PNDMScheduler", "")


def test_notes_count_the_rows_of_each_grouped_scheduler():
    clipped = '{"clip_sample": true}'
    settings = {
        ("DDIM", clipped): 3,
        ("DDIMScheduler", clipped): 2,
        ("DDIM", ""): 9,
        ("DPMSolverMultistep", '{"thresholding": true}'): 1,
    }

    assert grouped_notes(settings, {}) == [
        "scheduler DDIMScheduler is drawn in groups of equal settings: "
        "no table (with clip_sample true), 5 rows",
        "scheduler DPMSolverMultistepScheduler is drawn in groups of equal settings: "
        "no table (with thresholding true), 1 row",
    ]


def test_the_models_own_configuration_counts_where_a_row_says_nothing():
    assert len(grouped_notes({("DDIM", ""): 1}, {"thresholding": True})) == 1
    assert grouped_notes({("DDIM", '{"thresholding": false}'): 1}, {"thresholding": True}) == []


def test_every_stored_fact_has_a_way_and_a_kind():
    assert {fact["way"] for fact in FACTS.values()} <= {"tabled", "grouped", "unfit"}
    assert {fact["kind"] for fact in FACTS.values()} == {"diffusion", "flow", "other"}

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.manifest.scheduler_names import (
    DIFFUSIONDB,
    SAMPLERS,
    SPACINGS,
    a1111_name,
    choose_scheduler,
    lacking_reason,
    nearest_names,
    schedule_type_fault,
)
from sdbatch.plan.facts import DRAWABLE, OPTIONS

KARRAS = '{"use_karras_sigmas":true}'
SDE = '{"algorithm_type":"sde-dpmsolver++"}'


@pytest.mark.parametrize(
    ("name", "scheduler", "config"),
    [
        ("EulerDiscreteScheduler", "EulerDiscrete", ""),
        ("EulerDiscrete", "EulerDiscrete", ""),
        ("euler_a", "EulerAncestralDiscrete", ""),
        ("Euler a", "EulerAncestralDiscrete", ""),
        ("k_euler_ancestral", "EulerAncestralDiscrete", ""),
        ("dpmpp_2m_karras", "DPMSolverMultistep", KARRAS),
        ("DPM++ 2M Karras", "DPMSolverMultistep", KARRAS),
        ("dpmpp_2m_sde_gpu", "DPMSolverMultistep", SDE),
        ("dpmsolver++", "DPMSolverMultistep", ""),
        ("dpm_2_a", "KDPM2AncestralDiscrete", ""),
        ("plms", "PNDM", ""),
        ("8", "LMSDiscrete", ""),
        ("NoSuch", "NoSuch", ""),
    ],
)
def test_one_scheduler_has_many_names(name, scheduler, config):
    choice = choose_scheduler(name)

    assert (choice.scheduler, choice.config) == (f"{scheduler}Scheduler", config)


def test_diffusiondb_counts_its_samplers_from_one():
    for number, name in enumerate(DIFFUSIONDB, 1):
        assert choose_scheduler(str(number)) == choose_scheduler(name)
    assert "any sampler it does not name" in lacking_reason("9")


@pytest.mark.parametrize(
    ("sampler", "spacing", "config"),
    [
        ("DPM++ 2M", "Karras", KARRAS),
        ("dpmpp_2m", "karras", KARRAS),
        ("DPM++ 2M", "Automatic", KARRAS),
        ("Euler", "Automatic", ""),
        ("euler", "normal", ""),
        ("euler", "sgm_uniform", '{"timestep_spacing":"trailing"}'),
        ("DPM++ 2M Karras", "Exponential", '{"use_exponential_sigmas":true}'),
    ],
)
def test_the_spacing_of_steps_may_stand_in_a_column_of_its_own(sampler, spacing, config):
    assert choose_scheduler(sampler, spacing).config == config


def test_options_of_the_row_win_over_those_of_the_name():
    choice = choose_scheduler("DPM++ 2M Karras", "", '{"use_karras_sigmas": false, "a": 1}')

    assert choice.config == '{"a":1,"use_karras_sigmas":false}'
    assert choose_scheduler("Euler", "", "{").config == "{"
    assert choose_scheduler("Euler", "", '{"a": NaN}').config == '{"a": NaN}'


@pytest.mark.parametrize(
    "sampler", [one for one in SAMPLERS if one.label], ids=lambda one: one.label
)
@pytest.mark.parametrize("spacing", ["", *SPACINGS])
def test_a1111_reads_back_what_it_would_have_written(sampler, spacing):
    choice = choose_scheduler(sampler.label, spacing)
    said = a1111_name(choice.scheduler, choice.config)

    assert (said.sampler, said.config) == (sampler.label, "")
    assert choose_scheduler(said.sampler, said.schedule_type, said.config) == choice


@given(
    st.sampled_from(sorted(DRAWABLE)),
    st.dictionaries(
        st.sampled_from(["use_karras_sigmas", "algorithm_type", "solver_order", "eta"]),
        st.one_of(st.booleans(), st.integers(0, 9), st.sampled_from(["sde-dpmsolver++", "x"])),
    ),
)
def test_every_class_and_options_come_back_from_a1111s_words(scheduler, options):
    config = json.dumps(options, sort_keys=True, separators=(",", ":")) if options else ""
    said = a1111_name(scheduler, config)

    back = choose_scheduler(said.sampler, said.schedule_type, said.config)
    assert (back.scheduler, back.config) == (scheduler, config)


def test_every_name_means_a_class_that_can_be_drawn_with_and_its_options():
    for sampler in SAMPLERS:
        assert sampler.scheduler in DRAWABLE
        assert set(sampler.config or {}) <= OPTIONS[sampler.scheduler]
        for name in (sampler.label, *sampler.names):
            if name:
                assert choose_scheduler(name).scheduler == sampler.scheduler


@pytest.mark.parametrize(
    ("written", "first"),
    [
        ("Eulr", "EulerDiscreteScheduler"),
        ("DDIMM", "DDIMScheduler"),
        ("dpmpp_2mm", "DPMSolverMultistepScheduler"),
        ("", None),
        ("\u00e9", None),
    ],
)
def test_a_slip_has_three_nearest_names(written, first):
    near = nearest_names(written, DRAWABLE)

    assert len(near) == 3
    assert first is None or near[0] == first


def test_samplers_that_diffusers_lacks_are_said_to_be_lacking():
    assert lacking_reason("DPM fast") == "diffusers has no DPM fast"
    assert lacking_reason("Euler") == ""


def test_an_unknown_spacing_has_the_nearest_names():
    assert schedule_type_fault("karas").startswith("no such schedule type, nearest are Karras")
    assert schedule_type_fault("simple") == schedule_type_fault("") == ""

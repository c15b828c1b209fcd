"""Steps and guidance that a known model was not made for are said before a run."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest

from sdbatch.api import plan
from sdbatch.render.weights.model_facts import find_model


@pytest.fixture
def known(tmp_path):
    """The embedded model's files under the name of a published one."""

    def copy(name):
        return str(shutil.copytree(find_model("shapes").path, tmp_path / name))

    return copy


def warnings(manifest, model, **options):
    report = plan(manifest, model=model, **options)
    return [note for note in report.notes if "is made for" in note]


ROWS = pa.table({"prompt": ["a red circle", "a blue star"]})


def test_a_few_step_model_with_its_own_settings_is_passed_over(known):
    assert warnings(ROWS, known("sdxl-turbo"), size="64x64") == []


def test_many_steps_and_strong_guidance_are_said_with_who_said_them(known):
    said = warnings(
        ROWS, known("sdxl-turbo"), num_inference_steps=30, guidance_scale=7.5, size="64x64"
    )

    assert said == [
        "warning: model sdxl-turbo is made for 1 to 4 steps: here steps 30 (--steps)",
        "warning: model sdxl-turbo is made for guidance 0, at most 2: "
        "here guidance 7.5 (--guidance-scale)",
    ]


def test_a_model_of_many_steps_with_two_gets_its_word(known):
    (said,) = warnings(ROWS, known("stable-diffusion-v1-5"), num_inference_steps=2, size="64x64")

    assert "sd15 is made for 8 steps or more, usually 50: here steps 2 (--steps)" in said


def test_rows_that_say_so_themselves_are_counted(known):
    rows = pa.table(
        {
            "prompt": ["a", "b", "c", "d"],
            "num_inference_steps": pa.array([20, 50, None, 2], pa.int32()),
            "guidance_scale": pa.array([1.0, 2.04, None, 9.0]),
        }
    )
    steps, guidance = warnings(rows, known("sd-turbo"), size="64x64")

    assert steps.endswith("here steps 20 to 50 in 2 rows of the manifest")
    assert guidance.endswith("here guidance 2.1 to 9 in 2 rows of the manifest")


def test_a_default_that_no_row_takes_is_no_matter(known):
    rows = ROWS.append_column("num_inference_steps", pa.array([4, 4], pa.int32()))

    assert warnings(rows, known("sd-turbo"), num_inference_steps=40, size="64x64") == []


def test_models_that_are_not_known_are_left_alone():
    assert warnings(ROWS, "shapes", num_inference_steps=1, guidance_scale=20.0) == []

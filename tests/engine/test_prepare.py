"""What a plan refuses, and what it says of schedulers before a worker is asked for."""

import pytest

from sdbatch import api
from sdbatch.errors import JobError, ManifestError, ManifestRowsError

INLINE = {"engine": "inline", "size": "64x64"}
CLIPPED, THRESHOLDED = '{"clip_sample": true}', '{"thresholding": true}'


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("width", 100, "100: must be a multiple of 8 from 8 to 16384, for example 96 or 104"),
        ("height", 63, "63: must be a multiple of 8"),
        ("num_inference_steps", 0, "0: must be a whole number from 1 to 1000"),
        ("num_inference_steps", 10_000, "10000: must be a whole number from 1 to 1000"),
        ("scheduler", "EulerDiscret", "'EulerDiscret': no such scheduler, nearest are Euler"),
        ("scheduler", "FlowMatchEulerDiscrete", "cannot draw with this model: made for flow"),
        ("scheduler", "RePaintScheduler", "cannot draw with this model: .*'mask'"),
        ("scheduler", "VQDiffusion", "cannot draw with this model: made for another kind"),
        ("scheduler", "DDIMInverse", "cannot draw with this model: runs from a picture"),
    ],
)
def test_a_row_the_model_cannot_draw_is_refused_in_plan(manifest, column, value, words):
    usual = {"width": 64, "height": 64, "num_inference_steps": 9, "scheduler": "DDIM"}[column]
    path = manifest(5, **{column: [usual] * 3 + [value, usual]})

    with pytest.raises(ManifestError, match=f"row 3, column '{column}': .*{words}"):
        api.plan(path, model="shapes", **INLINE)


def test_an_option_the_rows_scheduler_does_not_take_is_refused_in_plan(manifest):
    path = manifest(
        4,
        scheduler=["DDIM", None, "EulerDiscrete", "DDIM"],
        scheduler_config=['{"clip_smaple": true}', '{"use_karras_sigmas": true}'] * 2,
    )

    with pytest.raises(ManifestRowsError) as caught:
        api.plan(path, model="shapes", **INLINE)

    said = [(problem.row, problem.column, problem.reason) for problem in caught.value.problems]
    column = "scheduler_config"
    assert said == [
        (0, column, "DDIMScheduler takes no 'clip_smaple', did you mean 'clip_sample'?"),
        (2, column, "EulerDiscreteScheduler takes no 'clip_smaple'"),
        (3, column, "DDIMScheduler takes no 'use_karras_sigmas'"),
    ]


def test_an_option_the_default_scheduler_does_not_take_is_refused(manifest):
    settings = {"defaults.scheduler_config": {"clip_smaple": True}}

    with pytest.raises(JobError, match=r"defaults\.scheduler_config: DDIMScheduler takes no"):
        api.plan(manifest(5), model="shapes", scheduler="DDIM", settings=settings, **INLINE)


def test_an_unfit_scheduler_is_refused_as_a_flag_too(manifest):
    with pytest.raises(JobError, match=r"--scheduler: .*made for flow-matching models"):
        api.plan(manifest(5), model="shapes", scheduler="FlowMatchEulerDiscrete", **INLINE)


def test_a_plan_says_which_schedulers_are_drawn_in_groups(manifest):
    path = manifest(
        6,
        scheduler=["DDIM", "DDIM", None, "DDIMScheduler", "DPMSolverMultistep", "HeunDiscrete"],
        scheduler_config=[CLIPPED, None, THRESHOLDED, CLIPPED, THRESHOLDED, ""],
    )

    notes = api.plan(path, model="shapes", **INLINE).notes

    assert [note for note in notes if "groups" in note] == [
        "scheduler DDIMScheduler is drawn in groups of equal settings: "
        "no table (with clip_sample true), 2 rows",
        "scheduler DPMSolverMultistepScheduler is drawn in groups of equal settings: "
        "no table (with thresholding true), 2 rows",
    ]


def test_a_plan_of_tables_alone_says_nothing_of_groups(manifest):
    path = manifest(3, scheduler=["DDIM", "LMSDiscrete", "UniPCMultistep"])

    assert not [note for note in api.plan(path, model="shapes", **INLINE).notes if "group" in note]


def test_a_default_configuration_without_a_table_is_told_for_all_its_rows(manifest):
    settings = {"defaults.scheduler_config": {"thresholding": True}}
    report = api.plan(manifest(7), model="shapes", settings=settings, **INLINE)

    assert any("DPMSolverMultistepScheduler is drawn in groups" in note for note in report.notes)
    assert any(note.endswith("7 rows") for note in report.notes)


@pytest.mark.render
def test_rows_of_both_ways_are_drawn_in_one_run_to_the_same_pixels(tmp_path):
    rows = [
        {
            "id": str(i),
            "prompt": "a red circle",
            "seed": i,
            "width": 32,
            "height": 32,
            "num_inference_steps": 3 + i % 2,
            "scheduler": ("DDIM", "EulerAncestralDiscrete")[i % 2],
            "scheduler_config": CLIPPED if i % 4 == 0 else "",
        }
        for i in range(12)
    ]

    def drawn(name, given, **options):
        out = tmp_path / name
        summary = api.render(given, out, model="shapes", engine="inline", **options)
        assert (summary.exit_code, summary.success) == (0, 12)
        table = api.open_dataset(out).to_table(["row_id", "pixel_sha256"])
        return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

    options = {"batch_size": 4}
    first = drawn("a", rows, **options)

    assert len(set(first.values())) == 12
    assert drawn("b", rows[::-1], shard_size=5, **options) == first

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch.manifest.checks import check_rows
from sdbatch.manifest.reader import open_manifest


@pytest.fixture
def check(write, limits):
    def _check(columns, **options):
        return check_rows(open_manifest(write(columns)), limits=limits, **options)

    return _check


def said(report):
    """Problems without the file name."""
    return [str(problem).removeprefix(problem.file) for problem in report.problems]


def test_a_good_manifest_has_no_problems(check):
    report = check(
        {
            "prompt": ["a", "b", ""],
            "seed": [0, 2**63 - 1, None],
            "width": [8, 16384, None],
            "num_inference_steps": [1, 1000, None],
            "guidance_scale": [0.0, 100.0, None],
            "scheduler": ["DDIM", "EulerDiscreteScheduler", None],
            "scheduler_config": ['{"eta": 1}', "", None],
            "num_images_per_prompt": [1000, 1, None],
            "model": ["shapes", "shapes", None],
            "task": ["text2image", None, None],
            "mood": ["x", None, "y"],
        }
    )

    assert report.problems == ()
    assert (report.num_rows, report.num_images, report.total) == (3, 1002, 0)
    assert report.sizes == {(8, None): 1, (16384, None): 1, (None, None): 1}
    assert report.notes == ("1 row has an empty prompt and will be drawn without one",)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("prompt", None, "is null, every row needs a prompt"),
        ("width", 100, "100: must be a multiple of 8 from 8 to 16384, for example 96 or 104"),
        ("width", 0, "0: must be a multiple of 8"),
        ("height", -8, "-8: must be a multiple of 8"),
        ("height", 16392, "16392: must be a multiple of 8 from 8 to 16384"),
        ("width", 512.5, "512.5: must be a multiple of 8"),
        ("num_inference_steps", -3, "-3: must be a whole number from 1 to 1000"),
        ("num_inference_steps", 0, "0: must be a whole number from 1 to 1000"),
        ("num_inference_steps", 10**9, "1000000000: must be a whole number from 1 to 1000"),
        ("num_inference_steps", 2.5, "2.5: must be a whole number"),
        ("guidance_scale", -1.0, "-1.0: must be a finite number, 0 or more"),
        ("guidance_scale", float("nan"), "nan: must be a finite number"),
        ("guidance_scale", float("inf"), "inf: must be a finite number"),
        ("guidance_scale", 1e39, "must be a finite number"),
        ("seed", -1, "-1: must be a whole number from 0 to 9223372036854775807"),
        ("seed", 2.0**63, "must be a whole number from 0"),
        ("seed", float("nan"), "nan: must be a whole number"),
        ("num_images_per_prompt", 0, "0: must be a whole number from 1 to 1000"),
        ("num_images_per_prompt", 1001, "1001: must be a whole number from 1 to 1000"),
        (
            "scheduler",
            "Eulr",
            "'Eulr': no such scheduler, nearest are EulerDiscreteScheduler, "
            "EulerAncestralDiscreteScheduler, DDIMScheduler",
        ),
        (
            "scheduler",
            "RePaint",
            "'RePaint': cannot draw with this model: its step wants a mask; "
            "'sdbatch manifest schedulers' lists those that can",
        ),
        ("scheduler_config", "{eta: 1}", "'{eta: 1}': must be a JSON object"),
        ("scheduler_config", "[1]", "'[1]': must be a JSON object"),
        ("model", "other", "'other': this version draws all rows of a run with model 'shapes'"),
        ("task", "inpaint", "'inpaint': this version draws all rows of a run with task 'text2"),
        ("id", None, "is empty, give every row an id or drop the column"),
    ],
)
def test_a_bad_value_is_named_with_its_row_and_what_would_be_right(check, column, value, words):
    fine = {"prompt": "a", "id": "x"}.get(column)
    columns = {"prompt": ["a", "b"], column: [fine, value]}

    report = check(columns)

    assert report.total == 1
    (problem,) = said(report)
    assert problem.startswith(f", row 1, column '{column}': ")
    assert words in problem


def test_a_prompt_column_of_nulls_alone_is_refused_row_by_row(check):
    report = check({"prompt": pa.nulls(2)})

    assert said(report) == [
        f", row {row}, column 'prompt': is null, every row needs a prompt" for row in (0, 1)
    ]


def test_a_large_unsigned_seed_is_shown_as_it_stands(check):
    report = check({"prompt": ["a"], "seed": pa.array([2**64 - 1], pa.uint64())})

    assert "18446744073709551615: must be" in said(report)[0]


def test_a_seed_must_leave_room_for_all_pictures_of_its_row(check):
    report = check(
        {
            "prompt": ["a", "b", "c"],
            "seed": [2**63 - 2, 2**63 - 2, None],
            "num_images_per_prompt": [2, 3, None],
        }
    )

    assert [problem.row for problem in report.problems] == [1]
    assert "the seed of the row's last picture passes" in said(report)[0]


def test_duplicate_ids_name_both_rows(check):
    report = check({"prompt": list("abcd"), "id": ["x", "y", "x", "y"]})

    assert report.total == 2
    assert said(report) == [
        ", row 2, column 'id': 'x': stands at row 0 already, ids must be unique",
        ", row 3, column 'id': 'y': stands at row 1 already, ids must be unique",
    ]


def test_whole_numbers_are_ids_too(check):
    report = check({"prompt": ["a", "b"], "id": [7, 7]})

    assert [(problem.row, problem.value) for problem in report.problems] == [(1, "'7'")]


def test_empty_ids_are_missing_not_repeated(check):
    report = check({"prompt": ["a", "b", "c"], "id": ["", None, "x"]})

    assert report.total == 2
    assert all("is empty" in problem for problem in said(report))


def test_problems_come_by_row_the_first_twenty_and_all_counted(check):
    width = [100] * 30
    report = check({"prompt": [None] * 30, "width": width, "id": ["x"] * 30})

    assert report.total == 30 + 30 + 29
    assert len(report.problems) == 20
    rows = [problem.row for problem in report.problems]
    assert rows == sorted(rows)
    assert rows[-1] == 6


def test_a_fault_of_a_column_is_a_problem_of_the_report(check):
    report = check({"prompt": ["a"], "sha256": [0.5]})

    assert report.total == 1
    assert said(report)[0].startswith(", column 'sha256': the dataset has a column of this name")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("strength", [1.0, 0.5, None]),
        ("image", ["", "a.png", None]),
        ("loras", ["[]", '[{"name": "x"}]', " "]),
        ("clip_skip", [0, 2, None]),
        ("upscale_factor", ["1.0", "4", ""]),
        ("ip_adapter_image", [[], ["a.png"], None]),
    ],
)
def test_only_a_row_that_asks_for_what_cannot_be_drawn_is_refused(check, column, values):
    report = check({"prompt": list("abc"), column: values})

    assert report.total == 1
    assert said(report)[0].startswith(f", row 1, column '{column}': ")
    assert "this version does not draw from this column, leave it empty" in said(report)[0]


def test_a_spacing_of_steps_and_options_of_a_name_are_checked(check):
    report = check(
        {
            "prompt": list("abc"),
            "scheduler": ["Euler", "DDIM", "euler_a"],
            "schedule_type": ["Karras", "polyexponential", None],
        }
    )

    assert [problem.row for problem in report.problems] == [1]
    assert "column 'schedule_type': 'polyexponential': no such schedule" in said(report)[0]
    assert report.schedulers[("EulerDiscreteScheduler", '{"use_karras_sigmas":true}')] == 1


def test_text_that_is_no_utf8_is_named(check):
    texts = pa.array([b"a", b"\xff\xfe", b"c"]).cast(pa.binary()).view(pa.string())

    report = check({"prompt": texts})

    assert said(report) == [", row 1, column 'prompt': is not UTF-8 text, re-encode it"]


def test_long_values_are_shortened(check):
    report = check({"prompt": ["a"], "scheduler": ["x" * 500]})

    assert len(report.problems[0].value) == 60


def test_rows_past_the_limit_are_not_looked_at(check):
    report = check({"prompt": ["a", "b", None]}, limit=2)

    assert (report.total, report.num_rows, report.num_images) == (0, 2, 2)


def test_equal_rows_without_ids_are_numbered(check):
    report = check({"prompt": ["a", "b", "a", "a", "b"], "mood": list("vwxyz")})

    assert report.repeat_rows.tolist() == [2, 3, 4]
    assert report.repeat_numbers.tolist() == [1, 2, 1]


def test_schedulers_are_counted_by_class_whatever_rows_call_them(check):
    clipped = '{"clip_sample": true}'
    report = check(
        {
            "prompt": list("abcd"),
            "scheduler": ["DDIM", None, "DDIM", ""],
            "scheduler_config": [clipped, clipped, clipped, None],
        }
    )

    assert report.schedulers == {
        ("DDIMScheduler", '{"clip_sample":true}'): 2,
        ("", clipped): 1,
        ("", ""): 1,
    }
    assert check({"prompt": ["a", "b"]}).schedulers == {("", ""): 2}


def test_rows_with_ids_need_no_numbers(check):
    report = check({"prompt": ["a", "a"], "id": ["x", "y"]})

    assert report.repeat_rows.size == 0


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(prompts=st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
def test_occurrences_count_equal_rows_before(check, prompts):
    report = check({"prompt": prompts})

    wanted = {n: prompts[:n].count(prompts[n]) for n in range(len(prompts))}
    found = dict(zip(report.repeat_rows.tolist(), report.repeat_numbers.tolist(), strict=True))
    assert found == {row: number for row, number in wanted.items() if number}


def test_two_bad_rows_of_ten_thousand_are_both_named(check):
    prompts = [f"a fox number {index}" for index in range(10_000)]
    steps = np.full(10_000, 20)
    prompts[4711], steps[9001] = None, -5

    report = check({"prompt": prompts, "num_inference_steps": steps})

    assert [problem.row for problem in report.problems] == [4711, 9001]

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.content import content_hash
from sdbatch.plan.rows import (
    Resolving,
    group_of,
    hash_of,
    resolve_or_fail,
    resolve_rows,
    rows_of_shard,
)
from sdbatch.records import Shard


@pytest.fixture
def how(defaults):
    return Resolving("rows.parquet", defaults, 0, True, {}, "r1")


def resolve(columns, how, first_row=0):
    table = pa.table(columns)
    return resolve_rows(table, np.arange(first_row, first_row + table.num_rows), how)


def test_a_row_that_says_nothing_takes_every_default(how, defaults):
    (row,) = resolve({"prompt": ["a"]}, how, 5)

    assert (row.row_index, row.image_index, row.prompt) == (5, 0, "a")
    assert (row.width_px, row.height_px) == (defaults.width, defaults.height)
    assert row.num_inference_steps == defaults.num_inference_steps
    assert row.guidance_scale == defaults.guidance_scale
    assert (row.scheduler, row.scheduler_config) == ("DDIMScheduler", "")
    assert row.row_id == content_hash({"prompt": "a"})


def test_what_a_row_says_wins(how):
    (row,) = resolve(
        {
            "prompt": ["a"],
            "id": ["fox"],
            "negative_prompt": ["blur"],
            "width": [128],
            "height": [32],
            "num_inference_steps": [7],
            "guidance_scale": [1.1],
            "scheduler": ["EulerDiscrete"],
            "scheduler_config": ['{"b": 1, "a": 2}'],
            "seed": [9],
        },
        how,
    )

    assert (row.width_px, row.height_px, row.num_inference_steps) == (128, 32, 7)
    assert (row.row_id, row.negative_prompt, row.seed) == ("fox", "blur", 9)
    assert row.guidance_scale == float(np.float32(1.1))
    assert (row.scheduler, row.scheduler_config) == ("EulerDiscreteScheduler", '{"a":2,"b":1}')


def test_a_null_takes_the_default_and_an_empty_negative_prompt_does_not(how):
    how = replace(how, defaults=replace(how.defaults, negative_prompt="ugly"))

    rows = resolve({"prompt": ["a", "b"], "negative_prompt": [None, ""]}, how)

    assert [row.negative_prompt for row in rows] == ["ugly", ""]


def test_one_picture_for_each_that_is_asked_for(how):
    rows = resolve({"prompt": ["a", "b"], "num_images_per_prompt": [3, None]}, how, 4)

    assert [row.image_id for row in rows] == [(4, 0), (4, 1), (4, 2), (5, 0)]
    assert len({row.seed for row in rows}) == len({row.row_hash for row in rows}) == 4


def test_a_stated_seed_counts_up_and_a_missing_one_is_derived(how):
    rows = resolve({"prompt": ["a", "b"], "seed": [5, None], "num_images_per_prompt": [2, 1]}, how)

    assert [row.seed for row in rows[:2]] == [5, 6]
    assert rows[2].seed < 2**32


def test_asking_for_more_pictures_keeps_those_there_were(how):
    few = resolve({"prompt": ["a"], "num_images_per_prompt": [2]}, how)
    many = resolve({"prompt": ["a"], "num_images_per_prompt": [4]}, how)

    assert many[:2] == few


def test_seeds_follow_the_row_wherever_it_stands(how):
    (here,) = resolve({"prompt": ["a"]}, how, 0)
    (there,) = resolve({"prompt": ["a"], "mood": ["x"], "seed": pa.nulls(1)}, how, 77)

    assert here.seed == there.seed


def test_equal_rows_differ_by_their_occurrence(how):
    first, second = resolve({"prompt": ["a", "a"]}, replace(how, occurrences={1: 1}))

    assert first.row_id == second.row_id
    assert first.seed != second.seed


def test_unchecked_rows_without_ids_are_known_by_position(how):
    first, second = resolve({"prompt": ["a", "a"]}, replace(how, hash_rows=False), 6)

    assert (first.row_id, second.row_id) == ("6", "7")
    assert first.seed != second.seed


def test_another_job_seed_gives_other_seeds(how):
    columns = {"prompt": ["a"], "id": ["x"]}

    assert resolve(columns, how)[0].seed != resolve(columns, replace(how, seed=1))[0].seed


def test_a_row_hash_is_of_the_request_alone(how):
    (one,) = resolve({"prompt": ["a"], "seed": [1], "id": ["x"]}, how, 0)
    (two,) = resolve({"prompt": ["a"], "seed": [1], "id": ["y"], "width": [64]}, how, 9)
    (three,) = resolve({"prompt": ["a"], "seed": [1]}, replace(how, model_revision="r2"))

    assert one.row_hash == two.row_hash != three.row_hash


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"prompt": [None]}, "row 3, column 'prompt': is null"),
        ({"prompt": ["a"], "scheduler_config": ["{"]}, "row 3, column 'scheduler_config': {: must"),
        ({"prompt": ["a"], "scheduler_config": ["[1]"]}, "row 3, column 'scheduler_config': .1.: "),
        ({"prompt": ["a"], "seed": [-1]}, "row 3, column 'seed': -1: must be a whole number"),
    ],
)
def test_unchecked_rows_that_cannot_be_read_are_named(how, columns, reason):
    with pytest.raises(ManifestError, match=reason):
        resolve(columns, how, 3)


def test_unchecked_rows_that_cannot_be_read_fail_alone(how):
    table = pa.table(
        {
            "prompt": ["a", None, "b", "c"],
            "scheduler_config": ["", None, "{", None],
            "num_images_per_prompt": [1, 2, 1, 2],
            "seed": [1, None, 2, 2**63 - 1],
        }
    )

    pictures, failures = resolve_or_fail(table, range(3, 7), how)

    assert [row.image_id for row in pictures] == [(3, 0), (6, 0)]
    assert [failure.row.image_id for failure in failures] == [(4, 0), (4, 1), (5, 0), (6, 1)]
    assert {failure.error_type for failure in failures} == {"ManifestError"}
    assert "row 4, column 'prompt': is null" in failures[0].error_message
    assert (failures[0].row.prompt, failures[2].row.scheduler_config) == ("", "{")
    assert failures[3].row.seed == 2**63 - 1


def test_groups_are_named_by_size(defaults):
    table = pa.table({"prompt": ["a", "b", "c"], "width": [128, None, 128]})

    assert group_of(table, defaults).tolist() == ["128x64", "64x64", "128x64"]


def test_a_shard_takes_its_own_rows_out_of_the_window(defaults):
    window = pa.table({"prompt": list("abcdef"), "width": [8, 16, 8, 16, 16, 8]})
    shard = Shard(0, 100, 106, "16x64", 1, 2, 2, 1.0)

    table, positions = rows_of_shard(window, shard, defaults)

    assert table.column("prompt").to_pylist() == ["d", "e"]
    assert positions.tolist() == [103, 104]


def test_an_undivided_shard_is_its_window(defaults):
    window = pa.table({"prompt": list("abc")})

    table, positions = rows_of_shard(window, Shard(0, 7, 10, "", 0, 3, 3, 1.0), defaults)

    assert table.equals(window)
    assert positions.tolist() == [7, 8, 9]


def test_a_plain_row_is_called_what_it_was_before_there_was_a_choice(how):
    (row,) = resolve({"prompt": ["a"], "seed": [1]}, how)
    (stated,) = resolve({"prompt": ["a"], "seed": [1], "prompt_syntax": ["plain"]}, how)

    assert row.row_hash == stated.row_hash == "ef043492f5e0cc366e7f6615eae1aa21"


def test_guidance_beside_the_told_one_is_asked_of_such_models_alone(how):
    table = {"prompt": ["a"] * 2, "seed": [1] * 2, "true_cfg_scale": [1.0, None]}
    told = replace(how, defaults=replace(how.defaults, true_cfg_scale=3.0))

    plain, rows = resolve(table, how), resolve(table, told)

    assert {row.row_hash for row in plain} == {"ef043492f5e0cc366e7f6615eae1aa21"}
    assert [row.true_cfg_scale for row in plain] == [None, None]
    assert [(row.true_cfg_scale, row.guided) for row in rows] == [(1.0, False), (3.0, True)]
    assert len({row.row_hash for row in (*plain, *rows)}) == 3
    assert [hash_of(row, told.model_revision) for row in rows] == [row.row_hash for row in rows]


def test_an_unchecked_row_that_asks_another_model_for_it_is_refused(how):
    with pytest.raises(ManifestError, match=r"row 0, column 'true_cfg_scale': 2: .*guidance_scale"):
        resolve({"prompt": ["a"], "true_cfg_scale": [2.0]}, how)


def test_the_syntax_of_a_prompt_is_part_of_its_request(how):
    table = {"prompt": ["a"] * 4, "seed": [1] * 4, "prompt_syntax": ["a1111", "plain", None, ""]}

    stated = resolve(table, how)
    usual = resolve(table, replace(how, defaults=replace(how.defaults, prompt_syntax="a1111")))

    assert [row.prompt_syntax for row in stated] == ["a1111", "plain", "plain", "plain"]
    assert [row.prompt_syntax for row in usual] == ["a1111", "plain", "a1111", "a1111"]
    assert stated[0].row_hash == usual[2].row_hash != stated[1].row_hash == usual[1].row_hash


def test_an_unknown_syntax_of_an_unchecked_row_is_refused(how):
    with pytest.raises(ManifestError, match=r"row 0, column 'prompt_syntax': A1111: .*a1111"):
        resolve({"prompt": ["a"], "prompt_syntax": ["A1111"]}, how)

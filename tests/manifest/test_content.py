import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.manifest.content import CONTENT_COLUMNS, content_digests, content_hash

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
ROW = st.fixed_dictionaries(
    {"prompt": TEXT},
    optional={
        "negative_prompt": TEXT,
        "seed": st.integers(0, 2**63 - 1),
        "width": st.integers(1, 4096),
        "guidance_scale": st.floats(0, 50, width=32),
        "scheduler": TEXT,
    },
)


def test_the_hash_of_a_row_is_the_same_for_ever():
    row = {"prompt": "a red circle", "width": 512, "guidance_scale": 7.5, "seed": 3}

    assert content_hash({"prompt": "a red circle"}) == "55591933b814b6e7072e39c007503b5e"
    assert content_hash(row) == "7317353f654ec3b7f7ea057ca590981a"


def test_guidance_that_changes_nothing_is_no_part_of_what_a_row_says():
    """It was not read once, so rows that say it keep their seeds."""
    plain = content_hash({"prompt": "a red circle"})

    assert content_hash({"prompt": "a red circle", "true_cfg_scale": 1.0}) == plain
    assert content_hash({"prompt": "a red circle", "true_cfg_scale": 2.0}) != plain


@settings(deadline=None, max_examples=40)
@given(row=ROW, order=st.randoms())
def test_any_permutation_of_columns_has_the_same_content(row, order):
    names = list(row)
    order.shuffle(names)
    shuffled = pa.table({name: [row[name]] for name in names})

    assert content_digests(shuffled)[0].hex() == content_hash(row)


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(ROW, min_size=2, max_size=6))
def test_two_rows_have_one_hash_exactly_when_they_say_the_same(rows):
    keyed = [tuple(sorted(row.items())) for row in rows]
    hashes = [content_hash(row) for row in rows]

    assert len(set(hashes)) == len(set(keyed))


@settings(deadline=None, max_examples=40)
@given(rows=st.lists(ROW, min_size=1, max_size=6))
def test_rows_hash_alike_in_company_and_alone(rows):
    table = pa.table({name: [row.get(name) for row in rows] for name in CONTENT_COLUMNS})

    assert [digest.hex() for digest in content_digests(table)] == [
        content_hash(row) for row in rows
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a", "id": "x"},
        {"prompt": "a", "mood": "blue"},
        {"prompt": "a", "seed": None},
        {"prompt": "a", "num_images_per_prompt": 4},
    ],
)
def test_what_is_no_content_does_not_enter_the_hash(other):
    assert content_hash(other) == content_hash({"prompt": "a"})


def test_number_layouts_do_not_enter_the_hash():
    narrow = pa.table({"prompt": ["a"], "width": pa.array([512], pa.int16())})
    wide = pa.table({"prompt": pa.array(["a"], pa.large_string()), "width": pa.array([512.0])})

    assert content_digests(narrow) == content_digests(wide)


def test_chunks_and_slices_do_not_enter_the_hash():
    prompts = [f"p{random.Random(index).random()}" for index in range(20)]
    whole = pa.table({"prompt": prompts, "guidance_scale": [0.5 * n for n in range(20)]})
    pieces = pa.concat_tables([whole.slice(0, 3), whole.slice(3, 9), whole.slice(12)])

    assert content_digests(pieces) == content_digests(whole)
    assert content_digests(whole.slice(5, 2)) == content_digests(whole)[5:7]

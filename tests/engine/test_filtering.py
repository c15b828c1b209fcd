"""What ends filtered follows from condition and columns, for any numbers in any order."""

import math
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.dataset.schema import dataset_schema
from sdbatch.dataset.spool import Spool
from sdbatch.dataset.where import parse_where
from sdbatch.engine.filtering import BEST_OF, choose_filtered, count_unscored
from sdbatch.errors import InputError
from tests.engine.standin import SPEC

SCHEMA = dataset_schema(
    [pa.field("class", pa.string()), pa.field("mark", pa.int8())],
    scores=("clip_score", "nsfw", "nsfw_score"),
    caption_column="text",
    class_labels={"class": ("cat", "dog")},
)
ROWS = 4
DOG, DOGS = "class = 'dog'", "class in ('cat', 'dog') and not class in ('cat')"
USER = pa.table(
    {
        "row_index": list(range(ROWS))[::-1],
        "class": ["dog", "cat", "dog", "cat"],
        "mark": [3, 2, 1, 0],
    }
)


def fill(spool, pictures):
    for (row_index, image_index), columns in pictures.items():
        known = {"row_index": row_index, "image_index": image_index}
        key = f"{row_index:09d}_{image_index:03d}"
        status = {"status": "success", "key": key, "prompt": f"picture {row_index}"}
        failed = columns.get("status") == "failed"
        data = None if failed else b"x"
        spool.append((row_index, image_index), {**known, **status, **columns}, data)


def chosen(folder, pictures, condition="", best_of=0, best_by=""):
    spec = replace(SPEC, filter=condition, best_of=best_of, best_by=best_by)
    with Spool(folder, SCHEMA) as spool:
        fill(spool, pictures)
        return dict(choose_filtered(spool, spec, USER))


ONE_EACH = {(row, 0): {"clip_score": row / 10, "nsfw": row == 2} for row in range(ROWS)}


@pytest.mark.parametrize(
    ("condition", "reasons"),
    [
        ("", {}),
        ("nsfw", {2: "nsfw"}),
        ("class = 'dog' or clip_score < 0.05", {0: "clip_score < 0.05", 1: DOG, 3: DOG}),
        (DOGS, dict.fromkeys((1, 3), DOGS)),
        ("class = 0", dict.fromkeys((0, 2), "class = 0")),
        ("text like '%e 3' and mark = 3", {3: "text like '%e 3' and mark = 3"}),
        ("nsfw_score > 0", {}),
        ("row_index in (1, 2) or nsfw", dict.fromkeys((1, 2), "row_index in (1, 2)")),
        ("status != 'success'", {}),
    ],
)
def test_the_reason_is_the_first_part_that_is_true(tmp_path, condition, reasons):
    found = chosen(tmp_path / "spool", ONE_EACH, condition)
    assert {int(key[:9]): reason for key, reason in found.items()} == reasons


def test_a_class_that_there_is_not_is_refused_by_name():
    with pytest.raises(InputError, match="'dgo' is no class of 'class', 'cat', 'dog' are"):
        parse_where("class = 'dgo'", SCHEMA)


SCORES = st.one_of(
    st.none(), st.just(math.nan), st.sampled_from([0.0, 0.5]), st.floats(-1, 1, width=32)
)
PICTURES = st.dictionaries(
    st.tuples(st.integers(0, ROWS - 1), st.integers(0, 3)),
    st.fixed_dictionaries(
        {"clip_score": SCORES, "nsfw": st.sampled_from([None, True, False])},
        optional={"status": st.just("failed")},
    ),
)


@settings(max_examples=60, deadline=None)
@given(pictures=PICTURES)
def test_of_what_the_condition_leaves_of_a_row_exactly_the_best_stays(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("spool")
    reasons = chosen(folder, pictures, "nsfw", best_of=4, best_by="clip_score")
    for row in range(ROWS):
        drawn = [place for place in pictures if place[0] == row]
        drawn = sorted(place for place in drawn if "status" not in pictures[place])
        ends = {place: reasons.get(f"{place[0]:09d}_{place[1]:03d}") for place in drawn}
        assert all((ends[place] == "nsfw") == bool(pictures[place]["nsfw"]) for place in drawn)
        left = [place for place in drawn if ends[place] != "nsfw"]
        if not left:
            continue
        number = {place: rank(pictures[place]["clip_score"]) for place in left}
        best = max(left, key=lambda place: (number[place], -place[1]))
        assert [place for place in left if ends[place] is None] == [best]
        assert all(ends[place] == BEST_OF for place in left if place != best)
    failed = {f"{r:09d}_{i:03d}" for (r, i), one in pictures.items() if "status" in one}
    assert not failed & reasons.keys()


def rank(score):
    return -math.inf if score is None or math.isnan(score) else score


def test_a_picture_is_unscored_when_a_scorer_failed_on_it_and_there_were_words(tmp_path):
    pictures = {
        (0, 0): {"clip_score": 0.5, "nsfw": False},
        (1, 0): {"clip_score": None, "nsfw": False},
        (2, 0): {"clip_score": None, "nsfw": None, "prompt": " "},
        (3, 0): {"clip_score": None, "status": "failed"},
        (3, 1): {"clip_score": 0.5},
    }
    with Spool(tmp_path / "spool", SCHEMA) as spool:
        fill(spool, pictures)
        assert count_unscored(spool, ("clip_score", "nsfw")) == 2
        assert count_unscored(spool, ()) == 0

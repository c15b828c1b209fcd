"""Texts that are no UTF-8, wherever they hide."""

import numpy as np
import pyarrow as pa
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.checks import check_rows
from sdbatch.manifest.reader import open_manifest
from sdbatch.manifest.texts import demand_texts, holds_text

OFFSETS = pa.array([0, 1, 2], pa.int32())
HIDING_PLACES = {
    "plain": lambda texts: texts,
    "list": lambda texts: pa.ListArray.from_arrays(OFFSETS, texts),
    "struct": lambda texts: pa.StructArray.from_arrays([texts], ["x"]),
    "map": lambda texts: pa.MapArray.from_arrays(OFFSETS, pa.array(["k", "l"]), texts),
    "list of structs": lambda texts: pa.ListArray.from_arrays(
        OFFSETS, pa.StructArray.from_arrays([texts], ["x"])
    ),
}


@pytest.fixture(params=HIDING_PLACES.values(), ids=HIDING_PLACES)
def hidden(request, broken):
    return request.param(broken)


def test_a_user_column_with_broken_text_is_named_by_the_check(hidden, write, limits):
    table = pa.table({"prompt": ["a", "b"], "mood": hidden})

    report = check_rows(open_manifest(write(table)), limits=limits)

    assert report.total == 1
    assert (report.problems[0].row, report.problems[0].column) == (1, "mood")
    assert "UTF-8" in report.problems[0].reason
    assert report.problems[0].file.endswith("rows.parquet")


def test_rows_after_the_limit_are_not_asked_for_their_texts(hidden, write, limits):
    table = pa.table({"prompt": ["a", "b"], "mood": hidden})

    assert check_rows(open_manifest(write(table)), limits=limits, limit=1).total == 0


def test_rows_with_broken_text_are_refused_by_their_position(hidden):
    table = pa.table({"prompt": ["a", "b"], "mood": hidden})

    with pytest.raises(ManifestError, match=r"rows, row 8, column 'mood': .* not UTF-8"):
        demand_texts("rows", table, np.array([5, 8]))


def test_good_texts_pass():
    table = pa.table({"prompt": ["a"], "tags": [["x", None]], "n": [1], "none": pa.nulls(1)})

    demand_texts("rows", table, np.array([0]))


def test_only_columns_with_texts_are_walked():
    texts = [pa.string(), pa.large_string(), pa.list_(pa.struct([("x", pa.string())]))]
    others = [pa.int64(), pa.binary(), pa.list_(pa.float32()), pa.struct([("n", pa.int8())])]

    assert all(holds_text(kind) for kind in [*texts, pa.dictionary(pa.int8(), pa.string())])
    assert not any(holds_text(kind) for kind in others)

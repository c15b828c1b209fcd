"""Columns counted in one pass: nothing is lost, whatever the values and batches."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.report.tally import FEW, RANGES, Ranges, Tallies

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)


@given(st.lists(st.lists(NUMBERS, max_size=30), max_size=6))
def test_ranges_count_every_number_once_in_few_ranges(batches):
    ranges = Ranges()
    for batch in batches:
        ranges.add(np.array(batch, dtype=np.float64))
    bars = list(ranges.bars())
    numbers = [number for batch in batches for number in batch]

    assert sum(count for _, count in bars) == len(numbers)
    assert len(bars) <= RANGES
    if numbers:
        assert (ranges.low, ranges.high) == (min(numbers), max(numbers))


@given(st.lists(st.floats(0, 1000), min_size=200, max_size=300, unique=True))
def test_ranges_fill_half_of_the_chart_at_least_when_all_numbers_come_at_once(numbers):
    ranges = Ranges()
    ranges.add(np.array(numbers))

    assert len(list(ranges.bars())) >= RANGES // 2


def counted(**columns):
    tallies = Tallies()
    tallies.add(pa.RecordBatch.from_pydict(columns))
    return {each.name: each for each in tallies.results()}


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        (["b", "a", "b", None], [("b", 2), ("a", 1)]),
        ([20, 6, 6], [("6", 2), ("20", 1)]),
        ([True, False, True], [("yes", 2), ("no", 1)]),
        (pa.array([7.1, 7.1], pa.float32()), [("7.1", 2)]),
        (["", "x", "x"], [("x", 2), ("(empty)", 1)]),
        (pa.array(["u", "v", "v"]).dictionary_encode(), [("v", 2), ("u", 1)]),
    ],
)
def test_few_values_are_counted_one_by_one(values, bars):
    found = counted(column=values)["column"]

    assert list(found.bars) == bars
    assert not found.ranges


def test_texts_of_many_values_have_no_distribution_and_numbers_get_ranges():
    found = counted(
        text=[f"value {i}" for i in range(FEW + 1)],
        number=[i / 3 for i in range(FEW + 1)],
        sentence=["word " * 50] * (FEW + 1),
        key=["k"] * (FEW + 1),
    )

    assert set(found) == {"number"}
    assert found["number"].ranges
    assert (found["number"].low, found["number"].high) == (0, FEW / 3)


def test_numbers_that_are_none_are_left_out_of_ranges_only():
    found = counted(score=[math.nan, math.inf, *range(FEW + 5)])["score"]

    assert sum(count for _, count in found.bars) == FEW + 5


def test_columns_that_only_failed_pictures_have_do_not_count_the_others_as_missing():
    tallies = Tallies()
    tallies.add(pa.RecordBatch.from_pydict({"a": ["x", None], "b": [1, 2]}))
    tallies.add(pa.RecordBatch.from_pydict({"a": ["x"]}))
    found = {each.name: each for each in tallies.results()}

    assert (found["a"].missing, found["b"].missing) == (1, 0)

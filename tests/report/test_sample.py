"""Which pictures are shown: evenly spread, the same at every call, rare ends among them."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.report.sample import Spread, shares

LOTS = st.lists(st.integers(0, 400), min_size=1, max_size=60)


@given(LOTS, st.integers(0, 500))
def test_the_wanted_number_is_taken_whatever_the_lots(lots, wanted):
    spread = Spread(sum(lots), wanted)
    taken = [spread.take(rows) for rows in lots]

    assert sum(taken) == min(wanted, sum(lots))
    assert all(count <= rows for count, rows in zip(taken, lots, strict=True))


@given(LOTS.filter(lambda lots: sum(lots) > 0), st.integers(1, 500))
def test_every_stretch_of_the_dataset_gives_its_share_to_within_one(lots, wanted):
    spread, total = Spread(sum(lots), wanted), sum(lots)
    taken = list(itertools.accumulate(spread.take(rows) for rows in lots))
    fair = np.cumsum(lots) * min(wanted, total) / total

    assert np.all(np.abs(np.array(taken) - fair) <= 1)


@given(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 5000))
def test_shares_stay_within_what_is_there_and_what_is_shown(success, failed, filtered, most):
    found = shares(success, failed, filtered, most)

    assert found["data"] <= success
    assert found["errors"] <= failed
    assert found["filtered"] <= filtered
    assert sum(found.values()) == min(most, success + failed + filtered)


def test_a_few_failures_among_many_pictures_are_all_shown():
    assert shares(1_000_000, 7, 0, 800) == {"data": 793, "errors": 7, "filtered": 0}


def test_pictures_find_room_among_very_many_failures():
    found = shares(500, 1_000_000, 0, 800)

    assert found["data"] >= 80
    assert sum(found.values()) == 800

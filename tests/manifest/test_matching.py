"""Pictures that stand are found by request and number, others by name, exactly once each."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.manifest.matching import Matching

hashes = st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2**63, 2**64 - 1]))
planned = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), hashes, hashes), max_size=20)
standing = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), hashes, hashes), max_size=20)


def words(pairs):
    return np.array(list(pairs), np.uint64).reshape(-1, 2)


def numbers(values):
    return np.array(list(values), np.int64)


@settings(max_examples=150, deadline=None)
@given(planned, standing)
def test_what_stands_is_what_a_plain_search_finds(ours, theirs):
    with Matching(6) as matching:
        for half in (ours[::2], ours[1::2]):
            rows, images, requests, names = zip(*half, strict=True) if half else ((),) * 4
            matching.plan(numbers(rows), numbers(images), words(requests), words(names))
        for run, image, request, name in theirs:
            matching.stand(numbers([image]), words([request]))
            matching.call(run, words([name]))
        found = matching.compare()

    stands = {(image, request) for _, image, request, _ in theirs}
    for row in range(6):
        mine = [one for one in ours if one[0] == row]
        same = bool(mine) and all((image, request) in stands for _, image, request, _ in mine)
        runs = [run for run, _, _, name in theirs if name in {one[3] for one in mine}]
        assert bool(found.same[row]) == same
        assert bool(found.changed[row]) == (not same and bool(runs))
    newest = [
        max(run for run, _, _, name in theirs if name in {one[3] for one in ours if one[0] == row})
        for row in np.flatnonzero(found.changed)
    ]
    assert found.changed_in == {run: newest.count(run) for run in set(newest)}


def test_a_row_of_which_nothing_is_planned_neither_stands_nor_changed():
    with Matching(2) as matching:
        found = matching.compare()

    assert not found.same.any()
    assert not found.changed.any()

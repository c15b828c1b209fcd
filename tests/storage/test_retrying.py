"""Patience: what is tried again, what is not, and that time is kept."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.errors import StorageError, StoreAccessError
from sdbatch.storage.retrying import (
    Fault,
    FaultError,
    Kind,
    Patience,
    by_status,
    pauses,
    persist,
    remaining_s,
    time_limit,
    wait_for,
)

SHORT = Patience(call_s=0.2, verb_s=0.5, pause_s=0.01, longest_pause_s=0.05)


def persisting(outcomes, patience=SHORT):
    """What comes of calls that end as told: a kind of failure, or a value."""
    calls = []

    def call(timeout_s):
        calls.append(timeout_s)
        outcome = outcomes[min(len(calls), len(outcomes)) - 1]
        if isinstance(outcome, Kind):
            raise RuntimeError(outcome.name)
        return outcome

    def sort(error):
        return Fault(Kind[str(error)], "a reason")

    return lambda: persist("s3://b/x", "read", call, sort, patience), calls


def test_what_passes_is_tried_again():
    run, calls = persisting([Kind.PASSING, Kind.PASSING, b"bytes"])

    assert run() == b"bytes"
    assert len(calls) == 3


@pytest.mark.parametrize("kind", [Kind.ABSENT, Kind.EXISTS, Kind.RANGE])
def test_what_the_verb_must_judge_is_handed_to_it_at_once(kind):
    run, calls = persisting([kind])

    with pytest.raises(FaultError) as caught:
        run()
    assert (caught.value.fault.kind, len(calls)) == (kind, 1)


@pytest.mark.parametrize("kind", [Kind.ACCESS, Kind.REFUSED])
def test_what_somebody_must_mend_is_said_at_once(kind):
    run, calls = persisting([kind])

    with pytest.raises(StoreAccessError, match=r"^s3://b/x: cannot read: a reason$") as caught:
        run()
    assert not caught.value.retryable
    assert len(calls) == 1


def test_what_does_not_pass_in_time_is_a_retryable_error():
    run, calls = persisting([Kind.PASSING])
    started = time.monotonic()

    with pytest.raises(StorageError, match="given up after") as caught:
        run()
    assert caught.value.retryable
    assert SHORT.verb_s <= time.monotonic() - started < SHORT.verb_s + 0.3
    assert len(calls) > 5
    assert max(calls) <= SHORT.call_s


def test_a_single_call_is_a_single_call():
    run, calls = persisting([Kind.PASSING], Patience(calls=1))

    with pytest.raises(StorageError):
        run()
    assert len(calls) == 1


def test_verbs_inside_a_verb_share_its_time():
    with time_limit(0.2):
        run, _ = persisting([Kind.PASSING], Patience(verb_s=60.0, pause_s=0.01))
        started = time.monotonic()
        with pytest.raises(StorageError):
            run()
        assert time.monotonic() - started < 0.6
        with time_limit(100.0):
            assert remaining_s() < 0.2
    assert remaining_s() == float("inf")


def test_a_call_that_never_ends_is_left():
    started = time.monotonic()

    with pytest.raises(TimeoutError, match="no answer"):
        wait_for(lambda: asyncio.sleep(30), 0.1)
    assert time.monotonic() - started < 2.0


@given(st.integers(100, 599))
@settings(max_examples=200)
def test_only_answers_that_may_change_are_tried_again(status):
    kind = by_status(status, "", "x").kind

    assert (kind is Kind.PASSING) == (status in (408, 409, 425, 429) or status >= 500)
    assert (kind is Kind.ABSENT) == (status == 404)


def test_pauses_grow_to_a_bound_and_differ():
    seen = [pause for pause, _ in zip(pauses(Patience()), range(12), strict=False)]

    assert max(seen) <= Patience().longest_pause_s
    assert seen[0] <= Patience().pause_s < min(seen[6:])
    assert len({round(pause, 6) for pause in seen}) > 6

"""A store that fails for a while: what is borne with, and for how long."""

import pytest

from sdbatch.engine import patience as patience_module
from sdbatch.engine.patience import Patience, is_outage, patient
from sdbatch.errors import (
    CommitUnknownError,
    DamagedError,
    LocalDiskError,
    ObjectNotFoundError,
    StorageError,
)
from sdbatch.storage.retrying import end_by
from sdbatch.storage.store import open_store

DOWN = StorageError("503 Slow Down")


class Clock:
    """Time that passes only in sleep."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        self.slept = []
        monkeypatch.setattr(patience_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(patience_module.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Failing:
    """A verb that fails so many times; then it succeeds."""

    def __init__(self, store, times, error=DOWN):
        self.store, self.left, self.error, self.calls = store, times, error, 0

    def put(self, key, data):
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        self.store.put(key, data)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path)


def made(failing, hurried=False, wanted=True):
    said = []
    patience = Patience(lambda: hurried, lambda *line: said.append(line))
    return patient(failing, patience, lambda: wanted), patience, said


def test_a_write_is_tried_again_until_the_store_is_back(store, clock):
    failing = Failing(store, 5)
    patient_store, _, said = made(failing)

    patient_store.put("data/a", b"bytes")

    assert store.get("data/a") == b"bytes"
    assert failing.calls == 6
    assert clock.slept == sorted(clock.slept)
    assert [event for event, _ in said] == ["store_trouble", "store_back"]
    assert "503 Slow Down" in said[0][1]


def test_patience_ends(store, clock):
    patient_store, _, _ = made(Failing(store, 10**6))

    with pytest.raises(StorageError, match="503"):
        patient_store.put("data/a", b"bytes")

    assert 100 + patience_module.PATIENCE_S <= clock.now < 100 + patience_module.PATIENCE_S + 30


def test_a_worker_that_is_asked_to_end_is_less_patient(store, clock):
    patient_store, _, _ = made(Failing(store, 10**6), hurried=True)

    with pytest.raises(StorageError):
        patient_store.put("data/a", b"bytes")

    assert clock.now < 100 + patience_module.HURRIED_S + 16


def test_nobody_waits_for_what_nobody_wants_any_more(store, clock):
    patient_store, _, _ = made(Failing(store, 10**6), wanted=False)

    with pytest.raises(StorageError):
        patient_store.put("data/a", b"bytes")

    assert clock.slept == []


@pytest.mark.parametrize(
    "error",
    [DamagedError("data/a", "hash differs"), LocalDiskError("n", "/tmp", "full"), ValueError("x"),
     ObjectNotFoundError("data/a")],
)  # fmt: skip
def test_what_another_try_cannot_heal_is_raised_at_once(store, clock, error):
    failing = Failing(store, 1, error)
    patient_store, _, _ = made(failing)

    with pytest.raises(type(error)):
        patient_store.put("data/a", b"bytes")

    assert failing.calls == 1
    assert not is_outage(error)


def test_an_unknown_outcome_is_tried_again(store, clock):
    patient_store, _, _ = made(Failing(store, 1, CommitUnknownError("commits/x", "reset")))

    patient_store.put("data/a", b"bytes")

    assert store.head("data/a") is not None


def test_an_outage_begins_anew_after_every_success(store, clock):
    failing = Failing(store, 3)
    patient_store, patience, said = made(failing)
    patient_store.put("data/a", b"1")
    clock.now += 10 * patience_module.PATIENCE_S
    failing.left = 3

    patient_store.put("data/b", b"2")

    assert [event for event, _ in said] == ["store_trouble", "store_back"] * 2
    assert patience.bears(DOWN)


def test_a_part_much_smaller_than_what_failed_is_no_proof_that_the_store_is_back(clock):
    said = []
    patience = Patience(lambda: False, lambda *line: said.append(line[0]))
    patience.bears(DOWN, weight=1000)

    assert not patience.succeeded(10)
    assert patience.succeeded(300)
    assert said == ["store_trouble", "store_back"]


def test_a_full_store_is_back_only_with_a_commit(clock):
    patience = Patience(lambda: False, lambda *_: None)
    patience.bears(StorageError("out: cannot write: Disk quota exceeded"), weight=10)

    assert not patience.succeeded()
    assert not patience.succeeded(10)
    assert patience.succeeded(commit=True)


def test_every_failure_is_told_with_the_time_since_the_first_call_that_failed(clock):
    told = []
    patience = Patience(lambda: False, lambda *_: None, lambda *fact: told.append(fact))
    patience.bears(DOWN, began=40.0)
    clock.now += 5
    patience.bears(DOWN, began=101.0)

    assert told == [("503 Slow Down", 60.0, True), ("503 Slow Down", 65.0, False)]


def test_nobody_bears_with_a_store_when_the_time_of_the_process_is_over(clock):
    patience = Patience(lambda: False, lambda *_: None)
    end_by(clock.now - 1)
    try:
        assert not patience.bears(DOWN)
    finally:
        end_by(float("inf"))

"""The probe: a store that breaks its word is found out before a run trusts it."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from sdbatch.errors import StorageError, StoreAccessError
from sdbatch.storage.probe import probe
from sdbatch.storage.store import open_store
from tests.storage.stores import DictStore, FaultStore, memory_store


class Overwriting(DictStore):
    """Takes the condition and ignores it, as some stores do."""

    def _create_new(self, key, data):
        self.objects[key] = data


class LooksFirst(DictStore):
    """Looks whether an object is there and then writes it: racers overtake each other."""

    def __init__(self):
        super().__init__()
        self._meet = threading.Barrier(2)

    def _create_new(self, key, data):
        if key in self.objects:
            raise FileExistsError(key)
        with suppress(threading.BrokenBarrierError):
            self._meet.wait(0.2)
        self.objects[key] = data


class LastWins(DictStore):
    """Refuses late creators, and lets the last of the racers replace the first."""

    def _create_new(self, key, data):
        exists = key in self.objects
        if not exists or data.startswith(b"racer"):
            self.objects[key] = data
        if exists:
            raise FileExistsError(key)


class Forgetful(DictStore):
    """Lists what stood a while ago."""

    def _walk(self, prefix):
        return iter(())


@pytest.mark.parametrize("broken", [Overwriting, LooksFirst, Forgetful])
def test_a_store_that_breaks_its_word_is_refused_in_one_line(broken):
    store = broken()

    with pytest.raises(StoreAccessError, match="--single-driver") as caught:
        probe(store)
    assert "\n" not in str(caught.value)
    assert store.objects == {}


def test_a_store_whose_objects_change_after_creation_is_refused():
    with pytest.raises(StoreAccessError):
        probe(LastWins())


def test_sound_stores_pass_and_keep_nothing(tmp_path):
    for store in (open_store(tmp_path / "out"), memory_store(), DictStore()):
        probe(store)
        assert list(store.list("")) == []


def test_a_store_that_fails_while_it_is_asked_is_no_liar():
    faulty = FaultStore(DictStore())
    faulty.faults = dict.fromkeys(range(1, 2000), "fail")

    with pytest.raises(StorageError) as caught:
        probe(faulty)
    assert not isinstance(caught.value, StoreAccessError)


def test_lost_replies_do_not_condemn_a_sound_store():
    faulty = FaultStore(DictStore())
    faulty.faults = {1: "lost", 3: "fail", 5: "lost"}

    probe(faulty)

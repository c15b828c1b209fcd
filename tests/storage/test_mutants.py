"""This protocol with one rule broken: if the checks let one live, they are worth nothing."""

from __future__ import annotations

import pytest

from sdbatch.audit import gc
from sdbatch.audit.gc import find_files
from sdbatch.errors import SdbatchError, StorageError
from sdbatch.storage import layout, standing
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.record import to_line
from sdbatch.storage.rework import Rework, rework_numbers
from sdbatch.storage.success import newest_success, summarise
from tests.storage import protocol_model
from tests.storage.protocol_model import PLAN, SHARDS, Driver, state_after
from tests.storage.stores import DictStore
from tests.storage.turns import Race, Switches

SEEDS = 600
RENDERS, REWORKS = (0, 1), (1, 2, 3, 4, 5)
"""Roles of `turns.ROLES` in which two drivers meet at what is broken."""


def caught_in(race, kind=Driver, roles=RENDERS):
    """The first seed at which the checks see that something is wrong."""
    return next((seed for seed in range(SEEDS) if race.run(seed, kind, roles)), None)


@pytest.fixture
def race(tmp_path):
    return Race(tmp_path)


class PutsTheRecord(Driver):
    """M1: the commit record is written without create-once."""

    def commit(self, result, revision):
        self.store.put(*record_of(result, revision))


class ReusesNames(Driver):
    """M2: data files are named without their attempt."""

    def attempt(self):
        return "00000000"


class RecordsFirst(Driver):
    """M3: the record is created before its files are stored."""

    def publish(self, shard_id, attempt, files, revision):
        self.commit(self.result(shard_id, attempt, files), revision)
        self.upload(files)


class CollectsEarly(Driver):
    """M4: what no record names is deleted before the success record stands."""

    def begin(self):
        found = list(find_files(self.store))
        named = {file.key for record in self.folder.records() for _, file in record.files}
        for key in found:
            if key not in named:
                self.store.delete(key)


class LoserDeletes(Driver):
    """M5: "exists" is believed without reading back, and the loser tidies up."""

    def commit(self, result, revision):
        key, body = record_of(result, revision)
        for _ in range(3):
            try:
                return self.store._create_new(key, body)
            except FileExistsError:
                self.store.delete(result.data.key)
                return self.store.delete(result.metadata.key)
            except SdbatchError:
                continue


class LooksThenPuts(Driver):
    """M6: create-once made of a look and a write."""

    def commit(self, result, revision):
        key, body = record_of(result, revision)
        if self.store.head(key) is None:
            self.store.put(key, body)


def record_of(result, revision):
    """Key and bytes of the record that `RunFolder.commit` would create."""
    other = DictStore()
    RunFolder(other).commit(result, PLAN, revision)
    ((key, body),) = other.objects.items()
    return key, body


@pytest.mark.parametrize(
    "mutant",
    [PutsTheRecord, ReusesNames, RecordsFirst, CollectsEarly, LoserDeletes, LooksThenPuts],
)
def test_a_driver_with_one_rule_broken_is_caught(mutant, race):
    assert caught_in(race, mutant) is not None


class AnnouncesLate(Driver):
    """Files of a rework are stored before its record says that it is open."""

    def announce(self, redo, shards):
        shard_id, revision = min(shards.items())
        attempt = self.attempt()
        rows = self.taken_over(shard_id, revision, redo)
        rows |= {row: f"picture {row}" for row in SHARDS[shard_id] if row not in rows}
        files = self.pack(shard_id, attempt, rows)
        self.upload(files)
        super().announce(redo, shards)
        self.commit(self.result(shard_id, attempt, files), revision)


class SharesParts(Driver):
    """Parts of a revision are those of the shard, whichever revision they were made for."""

    def reuse(self, shard_id, revision):
        return super().reuse(shard_id, 0)

    def save_part(self, shard_id, attempt, row, text, revision):
        super().save_part(shard_id, attempt, row, text, 0)


class TakesFailuresOver(Driver):
    """A retry keeps the rows that it should draw."""

    def taken_over(self, shard_id, revision, redo):
        rows = super().taken_over(shard_id, revision, redo)
        return rows | {row: "failed" for row in SHARDS[shard_id] if row not in rows}


@pytest.mark.parametrize("mutant", [AnnouncesLate, SharesParts, TakesFailuresOver])
def test_a_rework_with_one_rule_broken_is_caught(mutant, race):
    assert caught_in(race, mutant, REWORKS) is not None


def ignore_open_reworks(_store, folder, _run):
    """gc asks for a success record alone."""
    number = folder.success_number()
    if number is None:
        raise StorageError("not finished")
    return number


def read_records_first(store, run="main", dry_run=False):
    """gc lists its candidates after it has read what names them."""
    folder = RunFolder(store, run)
    named = gc._named(store, folder, run)
    for key in [*find_files(store, run), *gc._scratch(store, run)]:
        if key not in named:
            store.delete(key)


def add_success(self, plan_id, num_shards):
    """A success record is added whenever the newest one says something else."""
    records = list(self.records(certain=True))
    if len(records) != num_shards:
        raise StorageError("not finished")
    data = to_line(summarise(records, plan_id, self._run))
    while True:
        number = newest_success(self._store, self._run)
        if number is not None:
            key = layout.success_key(self._run, number)
            if self._store.get(key) == data:
                return
        key = layout.success_key(self._run, 0 if number is None else number + 1)
        if self._store.create_once(key, data):
            return


def close_whatever_stands(_self, revisions, num_shards, _rework):
    """An open rework is closed by the first driver that finds a record of every shard."""
    if len(revisions) != num_shards:
        raise StorageError("not finished")


def believe_the_copy(_store, _run, _success):
    """Folders that a compaction knows whole are not listed, whatever was begun since."""
    return set()


def begin_whatever_stands(self, redo, shards, plan_id):
    """A rework takes the next free number, though the one before it is open."""
    numbers = rework_numbers(self._store, self._run)
    rework = Rework(max(numbers, default=0) + 1, redo, dict(shards), plan_id, "")
    key = layout.rework_key(self._run, rework.number)
    self._store.create_once(key, rework.to_line())
    return rework


@pytest.mark.parametrize(
    ("stopped", "target", "name", "broken"),
    [
        ("gc", gc, "_finished_with", ignore_open_reworks),
        ("gc", protocol_model, "collect_orphans", read_records_first),
        ("render", RunFolder, "create_success", add_success),
        ("render", RunFolder, "_check_complete", close_whatever_stands),
        ("retry", RunFolder, "begin_rework", begin_whatever_stands),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_rule_of_reworks_is_caught(stopped, target, name, broken, tmp_path, monkeypatch):
    rendered = state_after(tmp_path, "render")
    monkeypatch.setattr(target, name, broken)

    assert Switches(tmp_path, (stopped,), ("retry",), rendered).first_failure() is not None


def test_a_copy_that_is_believed_against_a_rework_is_caught(race, monkeypatch):
    monkeypatch.setattr(standing, "_reworked_since", believe_the_copy)

    assert caught_in(race, roles=REWORKS) is not None

"""Failures of earlier calls are counted, and nobody waits for them."""

import threading

import pytest

from sdbatch import api
from sdbatch.engine import earlier
from sdbatch.engine.earlier import EarlierFailures
from sdbatch.engine.events import Assign
from sdbatch.engine.log_lines import RunLog
from sdbatch.errors import DamagedError
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store
from tests.engine.reworks import spoilt
from tests.engine.runs import INLINE, run_until


@pytest.fixture
def folder(manifest, tmp_path, monkeypatch):
    return RunFolder(open_store(spoilt(manifest, tmp_path, monkeypatch)))


def test_a_few_records_are_counted_at_once(folder):
    assert EarlierFailures(folder, {0, 1, 2, 3}, pytest.fail)() == 4


def test_shards_of_this_call_are_not_counted(folder):
    assert EarlierFailures(folder, {0, 3}, pytest.fail)() == 2


def test_many_records_are_read_beside_the_run(folder, monkeypatch):
    monkeypatch.setattr(earlier, "AT_ONCE", 0)
    gate, real = threading.Event(), RunFolder.records

    def slow(self, **options):
        gate.wait(10)
        return real(self, **options)

    monkeypatch.setattr(RunFolder, "records", slow)
    counted = EarlierFailures(folder, {0, 1, 2, 3}, pytest.fail)
    assert counted() == 0
    gate.set()
    counted._thread.join(10)

    assert counted() == 4


def test_a_record_that_cannot_be_read_is_said_and_ends_nothing(folder, monkeypatch):
    def torn(self, **options):
        raise DamagedError("00001.json", "no JSON")

    monkeypatch.setattr(earlier, "AT_ONCE", 0)
    monkeypatch.setattr(RunFolder, "records", torn)
    said = []
    counted = EarlierFailures(folder, {0}, said.append)
    counted._thread.join(10)

    assert counted() == 0
    assert "not counted (00001.json: damaged, no JSON)" in said[0]


def test_the_first_lease_of_a_resumed_run_waits_for_no_record(manifest, tmp_path, monkeypatch):
    path, out = manifest(40), tmp_path / "out"
    options = {"model": "fake:ms=60", "shard_size": 10, **INLINE}
    stopped = run_until(12, monkeypatch, path, out, **options)
    monkeypatch.setattr(earlier, "AT_ONCE", 0)
    leased, told, read = [], RunLog._tell, RunFolder.read_record

    def tell(self, said):
        if isinstance(said, Assign):
            leased.append(said.lease.shard.shard_id)
        told(self, said)

    def read_record(self, key):
        if not leased:
            assert threading.current_thread() is not threading.main_thread(), key
        return read(self, key)

    monkeypatch.setattr(RunLog, "_tell", tell)
    monkeypatch.setattr(RunFolder, "read_record", read_record)
    summary = api.render(path, out, **options)

    assert stopped.exit_code == 75
    assert 0 < len(leased) < 4
    assert summary.exit_code == 0

"""Exports that die at every write: the next call loses no row, doubles none, leaves no litter."""

import hashlib
import io
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import LeaseHeldError, SdbatchError
from sdbatch.storage import lease
from sdbatch.storage.lease import hold_lease
from sdbatch.storage.store import open_store
from sdbatch.transfer import choice, outputs
from sdbatch.transfer import export as export_module
from sdbatch.transfer.export import Export
from sdbatch.transfer.ledger import RUN, Ledger
from sdbatch.transfer.tidying import live_files
from tests.engine.reworks import spoil
from tests.storage.stores import DictStore, PowerCut
from tests.transfer.exports import INLINE, DyingStore, draw_otherwise, ledger, read, render, rows

FAULTS = ("crash_before", "lost")  # after a write is before the next one
WAYS = {
    "parquet": {},
    "webdataset": {"name": "{label}", "captions": "txt"},
    "files": {"name": "{label}", "split": "a=0.5,b=0.5"},
    "imagefolder": {"folder_by": "label", "captions": "txt", "shuffle": True},
    "parquet shuffled": {"shuffle": True, "split": "a=0.5,b=0.5", "where": "seed != 2"},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Files of a few pictures, uploads one after the other: every write has its number."""
    monkeypatch.setattr(export_module, "MB", 4000)
    monkeypatch.setattr(choice, "PART_PICTURES", 5)
    monkeypatch.setattr(outputs, "UPLOADS", 1)
    # The dead of these tests are of a process that lives on, so they are waited for.
    monkeypatch.setattr(lease, "STALE_S", 0.02)
    monkeypatch.setattr(lease, "POLL_S", 0.01)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    out = tmp_path_factory.mktemp("dataset") / "out"
    render(out, count=9, shard_size=4, model="fake")
    return out


def begin(inner=None):
    store = DyingStore(inner or DictStore())
    store.pause_s = 0.0
    return store


def run(out, store, way):
    said = {"format": way.split()[0], **WAYS[way]}
    return Export(open_store(out), store, said, shard_mb=1, note=lambda line: None).run()


def run_until_dead(out, store, way):
    """Whether the call came to its end."""
    try:
        run(out, store, way)
    except (PowerCut, SdbatchError):
        return False
    return True


def visible(objects):
    """What readers and later calls see, by its hash; attempts have other names each time."""
    found = {}
    for key, data in objects.items():
        if "/lease/" in key or key == "README.md":
            continue
        if key.startswith("__sdbatch"):
            key = key.rsplit("/", 1)[0]
            found[key] = found.get(key, 0) + 1
        else:
            found[key] = hashlib.sha256(data).hexdigest()
    return found


def check_exact(store, out, tmp_path, due):
    """Materialise the store and read it as people do."""
    place = tmp_path / hashlib.sha256(repr(sorted(store.objects)).encode()).hexdigest()[:12]
    for key, data in store.objects.items():
        path = place / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert read(place) == due


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_write_costs_nothing(way, fault, out, tmp_path):
    whole = begin()
    run(out, whole, way)
    expected, due = visible(whole.inner.objects), ledger(out)
    if "where" in WAYS[way]:
        due = {key: row for key, row in due.items() if row["seed"] != 2}
    assert whole.calls > 15
    for number in range(1, whole.calls + 1):
        store = begin()
        store.faults = {number: fault}
        run_until_dead(out, store, way)
        assert not store.faults, "the fault was never met"
        summary = run(out, begin(store.inner), way)

        assert visible(store.inner.objects) == expected
        assert summary.exported == len(due)
    check_exact(store.inner, out, tmp_path, due)


@pytest.mark.parametrize("way", ["parquet", "imagefolder"])
def test_a_second_call_may_die_anywhere_too(way, tmp_path, monkeypatch):
    """It joins small files, takes changed pictures back, and adds a run."""
    out = tmp_path / "out"
    render(out, count=10, shard_size=5, model="fake")
    first = begin()
    run(out, first, way)
    files = sorted((out / "data").glob("*.parquet"))
    files[1].write_bytes(files[1].read_bytes()[:100])
    draw_otherwise(monkeypatch)
    api.repair(out, engine="inline")
    api.render(rows(4, first=50), out, append="n2", model="fake", **INLINE)
    due = ledger(out)
    number, ended = 0, False
    while not ended:
        number += 1
        inner = DictStore()
        inner.objects = dict(first.inner.objects)
        store = begin(inner)
        store.faults = {number: "crash_before"}
        ended = run_until_dead(out, store, way)
        exported = stands(inner)
        assert len(exported) == len(set(exported))
        run(out, begin(inner), way)
        assert sorted(stands(inner)) == sorted(due)
    assert number > 20
    check_exact(inner, out, tmp_path, due)


def stands(store):
    """Keys of all rows that records name."""
    state = Ledger(store)
    return [
        key
        for file in live_files(state.files(), state.retired())
        if file.rows.key in store.objects
        for key in pq.read_table(io.BytesIO(store.get(file.rows.key)))["key"].to_pylist()
    ]


def test_two_exports_at_once_are_one_export(out, monkeypatch):
    for name, seconds in {"HEARTBEAT_S": 0.2, "LOOK_S": 0.1, "STALE_S": 20.0}.items():
        monkeypatch.setattr(lease, name, seconds)
    store = DictStore()
    with hold_lease(store, RUN), pytest.raises(LeaseHeldError, match="another"):
        run(out, begin(store), "parquet")


def test_a_record_that_another_export_made_ends_the_call(out):
    store = begin()
    run(out, store, "parquet")
    other = replace(Ledger(store).files()[0], attempt="ffffffff")
    with pytest.raises(LeaseHeldError, match="another export"):
        Ledger(store).add(other)


def test_a_retry_during_the_call_is_noticed(tmp_path, monkeypatch):
    """What was decided about a shard holds for its revision alone."""
    out = tmp_path / "out"
    spoil(monkeypatch, {3: "OneError"})
    render(out, count=10, shard_size=5, model="fake")
    spoil(monkeypatch, {})

    store = begin()
    export = Export(open_store(out), store, {}, shard_mb=1, note=lambda line: None)
    decide = export._decide

    def decide_then_retry(picked):
        decision = decide(picked)
        if api.open_dataset(out).errors().num_rows:
            api.retry(out, engine="inline")
        return decision

    monkeypatch.setattr(export, "_decide", decide_then_retry)
    with pytest.raises(SdbatchError, match="run the command again"):
        export.run()
    summary = run(out, begin(store.inner), "parquet")

    assert (summary.exported, summary.failed) == (10, 0)
    assert sorted(stands(store.inner)) == sorted(ledger(out))

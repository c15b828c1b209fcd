"""Power cuts, lost replies and failing calls at every storage call, one after the other.

Whatever happened, the committed part of the dataset is exact at every moment, and one
undisturbed run of everything afterwards completes it.
"""

from __future__ import annotations

import hashlib
import json

import pytest

from sdbatch.errors import ObjectNotFoundError
from sdbatch.storage import layout
from tests.storage.protocol_model import (
    EVERYTHING,
    SHARDS,
    Driver,
    Watch,
    file_of,
    run_to_its_end,
    state_after,
)
from tests.storage.stores import FAULTS, DictStore, FaultStore
from tests.storage.turns import is_write


class CountsWrites(FaultStore):
    """Faults meet writes alone: a crash at a read leaves what one at the next write leaves."""

    def _step(self, call, *args):
        return super()._step(call, *args) if is_write(self.inner, call) else call(*args)


def begin_with(objects):
    inner = DictStore()
    inner.objects = dict(objects)
    return inner, Watch(inner.objects)


def count_calls(objects, tmp_path, script=EVERYTHING, **ways):
    inner, _ = begin_with(objects)
    store = FaultStore(inner)
    Driver(store, tmp_path, "a", script, **ways).run()
    return store.calls


def spoil_one(objects, watch, what):
    if what == "record":
        watch.spoil(layout.commit_key("main", 2), b"{rotten")
    else:
        key = file_of(objects, 0, what)
        watch.spoil(key, None if what == "data" else b"rotten")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_of_render_and_retry_costs_nothing(fault, tmp_path):
    calls = count_calls({}, tmp_path)
    for number in range(1, calls + 1):
        inner, watch = begin_with({})
        store = FaultStore(inner)
        store.faults = {number: fault}
        run_to_its_end(Driver(store, tmp_path, "a"))
        watch.check()
        watch.check_finish(tmp_path)

        assert not store.faults, "the fault was never met"
    assert calls > 150


@pytest.mark.parametrize("what", ["data", "errors", "metadata", "record"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_call_of_a_repair_costs_nothing(what, fault, tmp_path):
    before = state_after(tmp_path, "render")
    number = 0
    while True:
        number += 1
        inner, watch = begin_with(before)
        spoil_one(inner.objects, watch, what)
        store = FaultStore(inner)
        store.faults = {number: fault}
        run_to_its_end(Driver(store, tmp_path, "a", ("repair",)))
        watch.check()
        watch.check_finish(tmp_path)
        if store.faults:
            break
    assert number > 40


@pytest.mark.parametrize("script", [("render",), ("retry",), ("repair",)], ids=lambda s: s[0])
def test_all_pairs_of_crashes_cost_nothing(script, tmp_path):
    # A crash after a write is one before the next; after the last one nothing is left to do.
    before = {} if script == ("render",) else state_after(tmp_path, "render")
    pairs, first = 0, 0
    ended = False
    while not ended:
        first += 1
        crashed, watch = begin_with(before)
        if script == ("repair",):
            spoil_one(crashed.objects, watch, "data")
            spoil_one(crashed.objects, watch, "record")
        rotten = watch.rotten
        store = CountsWrites(crashed)
        store.faults = {first: "crash_before"}
        ended = run_to_its_end(Driver(store, tmp_path, "a", script, with_parts=False))
        watch.check()
        for second in range(1, 1000):
            inner, watch = begin_with(crashed.objects)
            watch.rotten |= rotten  # said once more, the store is another
            store = CountsWrites(inner)
            store.faults = {second: "crash_before"}
            done = run_to_its_end(Driver(store, tmp_path, "b", script, with_parts=False))
            watch.check()
            watch.check_finish(tmp_path)
            pairs += 1
            if done:
                break
    assert pairs > 100


def test_a_shard_is_invisible_until_its_record_exists(tmp_path):
    store = DictStore()
    driver, watch = Driver(store, tmp_path, "a"), Watch(store.objects)
    files = driver.pack(0, "000000aa", {row: f"picture {row}" for row in SHARDS[0]})
    driver.upload(files)
    before = watch.rows()
    driver.commit(driver.result(0, "000000aa", files), 0)

    assert before == {}
    assert sorted(watch.rows()) == SHARDS[0]


def test_a_part_that_vanished_is_drawn_again(tmp_path):
    store = DictStore()
    driver = Driver(store, tmp_path, "a")
    driver.save_part(0, "000000aa", 1, "picture 1", 0)
    store.delete(layout.part_key("main", 0, "000000aa", 1, "parquet"))

    assert driver.reuse(0, 0) == {}
    with pytest.raises(ObjectNotFoundError):
        store.get(layout.part_key("main", 0, "000000aa", 1, "parquet"))


def test_other_shards_keep_their_bytes_through_a_retry(tmp_path):
    before = state_after(tmp_path, "render")
    after = dict(before)
    store = DictStore()
    store.objects = after
    kept = file_of(before, 1)
    Driver(store, tmp_path, "a", ("retry",)).run()

    assert after[kept] == before[kept]
    assert file_of(after, 1) == kept
    assert file_of(after, 0) != file_of(before, 0)
    assert hashlib.sha256(after[kept]).hexdigest()
    assert json.loads(after[kept])["rows"]

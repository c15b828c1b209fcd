"""The commit protocol against power cuts, lost replies and a second driver.

A small driver draws three shards of bytes through the real records, parts and gc, on a store
that fails where it is told to. Whatever happened, the committed part of the dataset is
exact at every moment, and one undisturbed run afterwards completes it. The six mutants
are this protocol with one rule broken: if these checks let one live, they are worth nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import queue
import random
import threading

import pytest

from sdbatch.audit.gc import collect_orphans, find_files
from sdbatch.errors import ObjectNotFoundError, SdbatchError
from sdbatch.records import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.parts import Parts
from tests.storage.stores import FAULTS, DictStore, FaultStore, PowerCut, make_result

PLAN = "plan-a"
SHARDS = [[0, 1, 2], [3, 4], [5, 6, 7]]
ROWS = list(itertools.chain(*SHARDS))


class Driver:
    """Draws the shards that have no record, as the engine's worker does."""

    def __init__(self, store, tmp_path, name, *, reverse=False, with_parts=True):
        self.store, self.reverse, self.with_parts = store, reverse, with_parts
        self.folder, self.parts = RunFolder(store), Parts(store)
        self.scratch = tmp_path / name
        self.attempts = (f"{ord(name[0]):02x}{number:06x}" for number in itertools.count())

    def run(self):
        self.begin()
        self.folder.create_job(json.dumps({"protocol": 1, "shards": SHARDS}).encode())
        for _ in range(4):
            todo = sorted(set(range(len(SHARDS))) - self.folder.committed(), reverse=self.reverse)
            if not todo:
                break
            for shard_id in todo:
                self.draw(shard_id)
        self.folder.create_success(PLAN, len(SHARDS))
        collect_orphans(self.store)

    def begin(self):
        pass

    def draw(self, shard_id):
        attempt = self.attempt()
        try:
            rows = self.reuse(shard_id)
            for row in SHARDS[shard_id]:
                if row not in rows:
                    rows.append(row)
                    if self.with_parts:
                        self.save_part(shard_id, attempt, row)
            files = self.pack(shard_id, attempt, sorted(rows))
            self.publish(shard_id, attempt, files)
            self.parts.drop(shard_id)
        except SdbatchError:
            pass  # the attempt failed; the shard stays in the queue

    def attempt(self):
        return next(self.attempts)

    def reuse(self, shard_id):
        rows = []
        for part in self.parts.list(shard_id) if self.with_parts else ():
            if self.parts.fetch(part, self.scratch):
                rows += [row for row, _ in part.images if row not in rows]
        return rows

    def save_part(self, shard_id, attempt, row):
        self.scratch.write_bytes(f"picture {row}".encode())
        self.parts.store(shard_id, attempt, row, self.scratch, [(row, 0)])

    def pack(self, shard_id, attempt, rows):
        files = {}
        for kind in ("data", "metadata"):
            # The attempt is in the bytes, as clocks and worker names are in real files.
            body = json.dumps({"kind": kind, "by": next(self.attempts), "rows": rows}).encode()
            key = layout.data_key(kind, shard_id, len(SHARDS), attempt)
            sha256 = hashlib.sha256(body).hexdigest()
            files[kind] = (DataFile(key, len(rows), len(body), sha256), body)
        return files

    def publish(self, shard_id, attempt, files):
        self.upload(files)
        self.commit(self.result(shard_id, attempt, files))

    def upload(self, files):
        for file, body in files.values():
            self.scratch.write_bytes(body)
            self.store.put_file(file.key, self.scratch)

    def result(self, shard_id, attempt, files):
        return make_result(
            shard_id,
            attempt,
            data=files["data"][0],
            metadata=files["metadata"][0],
            num_rows=len(SHARDS[shard_id]),
            success=len(SHARDS[shard_id]),
        )

    def commit(self, result):
        self.folder.commit(result, PLAN)


def read_rows(objects):
    """Rows of all committed shards, every byte checked against its record."""
    reader = DictStore()
    reader.objects = objects
    rows = []
    for record in RunFolder(reader).records():
        for kind, file in record.files:
            body = reader.get(file.key)
            assert hashlib.sha256(body).hexdigest() == file.sha256
            if kind == "data":
                rows += json.loads(body)["rows"]
    return rows


class Watch:
    """What must hold at every moment, whoever has died."""

    FOREVER = (
        layout.commits_prefix("main"),
        layout.successes_prefix("main"),
        layout.job_key("main"),
    )

    def __init__(self, objects):
        self.objects, self.seen = objects, {}

    def check(self):
        rows = read_rows(self.objects)
        assert len(rows) == len(set(rows))
        assert set(rows) <= set(ROWS)
        for key, body in self.objects.items():
            if key.startswith(self.FOREVER):
                assert self.seen.setdefault(key, body) == body, f"{key} changed"
        assert self.seen.keys() <= self.objects.keys()

    def check_finish(self, tmp_path):
        store = DictStore()
        store.objects = self.objects
        Driver(store, tmp_path, "resume").run()
        self.check()
        assert sorted(read_rows(self.objects)) == ROWS
        named = {f["key"] for f in RunFolder(store).success()["files"]}
        assert set(find_files(store)) == named
        assert not list(store.list(layout.parts_prefix("main")))


def run_to_its_end(driver):
    try:
        driver.run()
    except (PowerCut, SdbatchError):
        return False
    return True


def count_calls(tmp_path):
    store = FaultStore(DictStore())
    Driver(store, tmp_path, "a").run()
    return store.calls


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_storage_call_costs_nothing(fault, tmp_path):
    calls = count_calls(tmp_path)
    for number in range(1, calls + 1):
        inner = DictStore()
        store = FaultStore(inner)
        store.faults = {number: fault}
        watch = Watch(inner.objects)
        run_to_its_end(Driver(store, tmp_path, "a"))
        watch.check()
        watch.check_finish(tmp_path)

        assert not store.faults, "the fault was never met"
    assert calls > 40


def test_a_second_crash_while_resuming_costs_nothing(tmp_path):
    calls = count_calls(tmp_path)
    rng = random.Random(5)
    for _ in range(120):
        inner = DictStore()
        watch = Watch(inner.objects)
        for name in ("a", "b"):
            store = FaultStore(inner)
            store.faults = {rng.randint(1, calls): rng.choice(FAULTS)}
            run_to_its_end(Driver(store, tmp_path, name))
            watch.check()
        watch.check_finish(tmp_path)


class Turns:
    """Lets one of several threads go on at every storage call, chosen by a seeded die."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.batons = {}
        self.reports = queue.SimpleQueue()

    def wait(self):
        self.reports.put("call")
        self.batons[threading.current_thread().name].acquire()

    def run(self, tasks, check, head_start):
        """Run tasks by name to their ends; returns what `check` or a task raised first.

        The first task goes on alone for `head_start` calls.
        """
        threads = []
        for name, task in tasks.items():
            self.batons[name] = threading.Semaphore(0)
            threads.append(threading.Thread(target=self._body, args=(name, task), name=name))
        for thread in threads:
            thread.start()
        alive, broken = sorted(tasks), None
        for turn in itertools.count():
            if not alive:
                break
            name = alive[0] if turn < head_start else self.rng.choice(alive)
            self.batons[name].release()
            report = self.reports.get()
            if report != "call":
                alive.remove(name)
                broken = broken or report
            if broken is None:
                try:
                    check()
                except (AssertionError, SdbatchError) as error:
                    broken = error
        for thread in threads:
            thread.join()
        return broken

    def _body(self, name, task):
        self.batons[name].acquire()
        broken = RuntimeError(f"driver {name} ended in no known way")
        try:
            task()
            broken = None
        except (PowerCut, SdbatchError):
            broken = None
        finally:
            self.reports.put(broken)


def race(kind, seed, tmp_path):
    """Two drivers, switched at every call, with two random faults; returns what went wrong."""
    rng = random.Random(seed)
    turns, inner = Turns(seed), DictStore()
    store = FaultStore(inner, turns.wait)
    # Parts are most of the calls; without them drivers meet at the commits more often.
    with_parts = seed % 4 == 0
    calls = 68 if with_parts else 36
    store.faults = {rng.randint(1, 2 * calls): rng.choice(FAULTS) for _ in range(2)}
    watch = Watch(inner.objects)
    one = kind(store, tmp_path, "a", with_parts=with_parts)
    two = kind(store, tmp_path, "b", with_parts=with_parts, reverse=seed % 4 == 1)
    head_start = rng.choice([0, rng.randint(0, calls)])  # the second may come in the middle
    broken = turns.run({"a": one.run, "b": two.run}, watch.check, head_start)
    if broken is None:
        try:
            watch.check_finish(tmp_path)
        except (AssertionError, SdbatchError) as error:
            broken = error
    return broken


def test_two_drivers_interleaved_at_every_call_make_one_dataset(tmp_path):
    for seed in range(200):
        assert race(Driver, seed, tmp_path) is None, f"seed {seed}"


class PutsTheRecord(Driver):
    """M1: the commit record is written without create-once."""

    def commit(self, result):
        other = DictStore()
        RunFolder(other).commit(result, PLAN)
        ((key, body),) = other.objects.items()
        self.store.put(key, body)


class ReusesNames(Driver):
    """M2: data files are named without their attempt."""

    def attempt(self):
        return "00000000"


class RecordsFirst(Driver):
    """M3: the record is created before its files are stored."""

    def publish(self, shard_id, attempt, files):
        self.commit(self.result(shard_id, attempt, files))
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

    def commit(self, result):
        other = DictStore()
        RunFolder(other).commit(result, PLAN)
        ((key, body),) = other.objects.items()
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

    def commit(self, result):
        key = layout.commit_key("main", result.shard_id)
        if self.store.head(key) is None:
            PutsTheRecord.commit(self, result)


@pytest.mark.parametrize(
    "mutant",
    [PutsTheRecord, ReusesNames, RecordsFirst, CollectsEarly, LoserDeletes, LooksThenPuts],
)
def test_a_protocol_with_one_rule_broken_is_caught(mutant, tmp_path):
    caught = next((seed for seed in range(400) if race(mutant, seed, tmp_path)), None)

    assert caught is not None


def test_a_shard_is_invisible_until_its_record_exists(tmp_path):
    store = DictStore()
    driver = Driver(store, tmp_path, "a")
    files = driver.pack(0, "000000aa", SHARDS[0])
    driver.upload(files)
    before = read_rows(store.objects)
    driver.commit(driver.result(0, "000000aa", files))

    assert before == []
    assert read_rows(store.objects) == SHARDS[0]


def test_a_part_that_vanished_is_drawn_again(tmp_path):
    store = DictStore()
    driver = Driver(store, tmp_path, "a")
    driver.save_part(0, "000000aa", 1)
    store.delete(layout.part_key("main", 0, "000000aa", 1, "parquet"))

    assert driver.reuse(0) == []
    with pytest.raises(ObjectNotFoundError):
        store.get(layout.part_key("main", 0, "000000aa", 1, "parquet"))

"""The desk of a worker when store, disk, drain and other workers get in its way."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from sdbatch.dataset.spool import Spool
from sdbatch.engine import desk, patience
from sdbatch.engine.events import (
    LeaseReturned,
    Pulse,
    ShardDone,
    ShardFailed,
    StoreTrouble,
)
from sdbatch.engine.worker import Worker
from sdbatch.errors import (
    LocalDiskError,
)
from sdbatch.model_specs import RenderSpec
from sdbatch.render.fake import FakeRenderer
from sdbatch.render.judges.scorers import Panel
from sdbatch.render.weights.model_facts import find_model
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.local_store import LocalStore
from sdbatch.storage.parts import Parts
from sdbatch.storage.store import open_store
from tests.engine.one_worker import Down, events_until, lease, log_events, ready_worker


def test_a_commit_waits_for_a_store_that_fails_and_nothing_is_drawn_again(job, monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    down = Down(LocalStore.put_file, 4)
    monkeypatch.setattr(LocalStore, "put_file", lambda *args: down(*args))
    drawn = []
    real = FakeRenderer._draw
    monkeypatch.setattr(
        FakeRenderer, "_draw", lambda s, row, n: drawn.append(row.image_id) or real(s, row, n)
    )
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    seen = events_until(worker, job, 1, ShardDone)

    assert down.left == 0
    assert not [event for event in seen if isinstance(event, ShardFailed)]
    assert len(drawn) == len(set(drawn)) == 10
    assert {"store_trouble", "store_back", "shard_committed"} <= set(log_events(job))
    trouble = [event for event in seen if isinstance(event, StoreTrouble)]
    assert [event.first for event in trouble] == [True, False, False, False]
    assert seen.index(trouble[0]) < next(n for n, e in enumerate(seen) if isinstance(e, ShardDone))


def test_a_store_that_stays_down_ends_the_attempt_resumably(job, monkeypatch):
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.2)
    down = Down(None, 10**9)
    monkeypatch.setattr(LocalStore, "put_file", lambda *args: down(*args))
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    failed = [e for e in events_until(worker, job, 1, ShardFailed) if isinstance(e, ShardFailed)]

    assert [(f.exit_code, f.retryable, f.worker_unfit) for f in failed] == [(3, True, False)]


def test_pictures_of_a_part_that_was_not_stored_are_in_the_next_one(job, monkeypatch):
    worker, _ = ready_worker(job, "fake:ms=60")
    down = Down(Parts.store, 2)
    monkeypatch.setattr(Parts, "store", lambda *args, **how: down(*args, **how))
    worker.offer(lease(job, 0))
    for event in worker.work(replace(job.spec, checkpoint_every_s=0.02)):
        if isinstance(event, Pulse) and event.finished.get(0, 0) >= 6:
            worker.drain()

    kept = [image for part in Parts(open_store(job.spec.output)).list(0) for image in part.images]
    assert down.left == 0
    assert len(kept) == len(set(kept)) >= 6


def test_a_full_disk_ends_one_shard_with_node_and_place_and_not_the_others(job, monkeypatch):
    real = Spool.append

    def append(self, image_id, columns, data, **how):
        if image_id == (3, 0):
            raise LocalDiskError("gpu-7", "/tmp/spool", "No space left on device")
        return real(self, image_id, columns, data, **how)

    monkeypatch.setattr(Spool, "append", append)
    worker, _ = ready_worker(job)
    for shard_id in range(2):
        worker.offer(lease(job, shard_id))
    seen = events_until(worker, job, 1, ShardDone)

    failed = [event for event in seen if isinstance(event, ShardFailed)]
    assert [(f.shard_id, f.error_type, f.exit_code, f.retryable) for f in failed] == [
        (0, "LocalDiskError", 3, True)
    ]
    assert "node gpu-7, /tmp/spool: No space left" in failed[0].message
    assert [event.shard_id for event in seen if isinstance(event, ShardDone)] == [1]


def test_a_disk_without_room_is_refused_before_anything_is_loaded(job, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    loaded = []
    monkeypatch.setattr(FakeRenderer, "__init__", lambda *args: loaded.append(args))
    worker = Worker("w0", job.spec.output, {}, 0.05)
    facts = find_model("fake")

    with pytest.raises(LocalDiskError, match=r"1 worker of this node need 1000000000\.0 GB"):
        worker.load(RenderSpec("fake", facts.path, facts.revision, "auto", {}, 1), (), "t", 10**18)

    assert loaded == []


def test_an_abandoned_shard_is_dropped_without_a_word_and_the_next_one_drawn(job):
    worker, _ = ready_worker(job, "fake:ms=20")
    worker.offer(lease(job, 0))
    seen = []
    for event in worker.work(job.spec):
        seen.append(event)
        if isinstance(event, Pulse) and 2 <= event.finished.get(0, 0) < 8:
            worker.abandon(0)
            worker.offer(lease(job, 1))
        if isinstance(event, ShardDone):
            worker.drain()

    assert {e.shard_id for e in seen if isinstance(e, ShardDone)} == {1}
    assert not [e for e in seen if isinstance(e, ShardFailed | LeaseReturned) and e.shard_id == 0]
    assert RunFolder(open_store(job.spec.output)).committed() == {1}


def test_a_lease_that_was_abandoned_before_it_was_opened_is_not_returned(job):
    worker, _ = ready_worker(job)
    worker.drain()
    worker.offer(lease(job, 1))
    worker.offer(lease(job, 2))
    worker.abandon(1)

    assert list(worker.work(job.spec)) == [LeaseReturned("w0", 2)]


def test_a_second_lease_draws_from_the_other_end(job, monkeypatch):
    drawn = []
    real = FakeRenderer._draw
    monkeypatch.setattr(
        FakeRenderer, "_draw", lambda s, row, n: drawn.append(row.row_index) or real(s, row, n)
    )
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 1, reverse=True))
    events_until(worker, job, 1, ShardDone)

    assert drawn == list(range(19, 9, -1))


def test_two_workers_on_one_shard_meet_in_the_middle(job, monkeypatch):
    monkeypatch.setattr(desk, "SHARE_EVERY_S", 0.05)
    drawn = []
    real = FakeRenderer._draw
    monkeypatch.setattr(
        FakeRenderer, "_draw", lambda s, row, n: drawn.append(row.row_index) or real(s, row, n)
    )
    workers = [ready_worker(job, "fake:ms=60,lanes=1")[0] for _ in range(2)]
    workers[0].offer(lease(job, 0))
    workers[0].share(0)
    workers[1].offer(lease(job, 0, reverse=True))
    done = []

    def draw(worker):
        done.extend(e for e in events_until(worker, job, 1, ShardDone) if isinstance(e, ShardDone))

    threads = [threading.Thread(target=draw, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(event.won for event in done) == [False, True]
    assert set(drawn) == set(range(10))
    assert len(drawn) <= 14  # apart from those in flight when they met, each row once


def test_a_notice_too_short_for_a_picture_is_not_waited_for(job):
    worker, _ = ready_worker(job, "fake:ms=3000,lanes=1")
    worker.offer(lease(job, 0))
    seen = []
    for event in worker.work(job.spec):
        seen.append(event)
        if isinstance(event, Pulse) and event.in_flight:
            asked = time.monotonic()
            worker.drain(within_s=2.0)

    assert time.monotonic() - asked < 1.5
    assert seen[-1] == LeaseReturned("w0", 0)


def test_a_notice_long_enough_loses_nothing(job):
    worker, _ = ready_worker(job, "fake:ms=300,lanes=2")
    worker.offer(lease(job, 0))
    for event in worker.work(job.spec):
        if isinstance(event, Pulse) and event.in_flight and event.finished.get(0):
            worker.drain(within_s=60.0)
            in_sight = event.finished[0] + event.in_flight

    kept = [image for part in Parts(open_store(job.spec.output)).list(0) for image in part.images]
    assert len(kept) >= in_sight


def test_a_drain_is_told_to_the_renderer_which_may_hold_rows_for_long(job, monkeypatch):
    """As one that draws window by window: it gives nothing back until it is told to leave."""
    told = threading.Event()

    def render(self, rows):
        feed = iter(rows)
        taken = [next(feed) for _ in range(4)]
        assert told.wait(20.0)
        yield self._draw(taken[0], 8)

    monkeypatch.setattr(FakeRenderer, "render", render)
    monkeypatch.setattr(FakeRenderer, "leave", lambda _: told.set())
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    seen = []
    for event in worker.work(job.spec):
        seen.append(event)
        if isinstance(event, Pulse) and event.in_flight == 4:
            worker.drain()

    assert seen[-1] == LeaseReturned("w0", 0)
    (part,) = Parts(open_store(job.spec.output)).list(0)
    assert len(part.images) == 1


def shard_files(disk):
    """Parquet files below a folder from which others delete meanwhile."""
    return [name for _, _, names in os.walk(disk) for name in names if name.endswith(".parquet")]


def test_the_files_of_a_committed_shard_leave_the_local_disk(job, tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    left = None
    for event in worker.work(job.spec):
        if isinstance(event, ShardDone):
            deadline = time.monotonic() + 5
            while (left := shard_files(disk)) and time.monotonic() < deadline:
                time.sleep(0.01)
            worker.drain()

    assert left == []
    assert list(disk.iterdir()) == []


LOADED = """
import sys, time
from tests.engine.test_worker import Worker
from sdbatch.model_specs import RenderSpec
from sdbatch.render.weights.model_facts import find_model
from sdbatch.render.judges.scorers import Panel

worker, facts = Worker("w0", sys.argv[1], {}, 1.0), find_model("fake")
worker.load(RenderSpec("fake", facts.path, facts.revision, "auto", {}, 1), ((64, 64),), "t")
print("loaded", flush=True)
time.sleep(60)
"""


def test_a_killed_worker_leaves_no_folder(job, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    environment = os.environ | {"TMPDIR": str(disk), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", LOADED, job.spec.output],
        stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "loaded\n"
        during = list(disk.iterdir())
        process.kill()
    deadline = time.monotonic() + 5
    while list(disk.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert len(during) == 1
    assert list(disk.iterdir()) == []


class DyingScorer:
    """A scorer whose device fails while pictures pile up before it."""

    name, columns, revision = "clip", ("clip_score",), "r"

    def score(self, pictures, prompts):  # a scorer's signature
        time.sleep(0.5)
        raise MemoryError("the device is gone")


def test_a_device_that_fails_under_a_scorer_ends_the_worker_though_pictures_pile_up(
    job, monkeypatch
):
    monkeypatch.setattr(desk, "MAX_ENCODING", 4)  # fewer than are dropped
    worker, _ = ready_worker(job)
    worker._panel = Panel([DyingScorer()], 2, fatal=(MemoryError,))
    worker.offer(lease(job, 0))
    worker.offer(lease(job, 1))
    seen = []
    done = threading.Thread(target=lambda: seen.extend(worker.work(job.spec)), daemon=True)
    done.start()
    done.join(20)
    assert not done.is_alive()
    failed = [event for event in seen if isinstance(event, ShardFailed)]
    assert sorted(event.shard_id for event in failed) == [0, 1]
    assert [(event.worker_unfit, event.retryable) for event in failed] == [(True, True)] * 2, failed

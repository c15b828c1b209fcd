"""One worker on its own: leases in, commits, parts and events out."""

import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.engine.events import (
    CARE_ALONE,
    LeaseReturned,
    Pulse,
    ShardDone,
    ShardFailed,
    WorkerReady,
)
from sdbatch.engine.worker import Worker
from sdbatch.errors import (
    DeviceMemoryError,
    ModelError,
    StoreNotSharedError,
)
from sdbatch.model_specs import RenderSpec
from sdbatch.render.fake import FakeRenderer
from sdbatch.render.weights.model_facts import find_model
from sdbatch.results import RowFailure
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.parts import Parts
from sdbatch.storage.store import open_store
from tests.engine.one_worker import events_until, lease, ready_worker


def test_a_worker_that_is_ready_says_where_and_with_what(job):
    _, ready = ready_worker(job)

    assert isinstance(ready, WorkerReady)
    assert ready.lanes == {"64x64": 8}
    assert ready.node


def test_a_worker_that_cannot_see_the_output_says_so(job, tmp_path):
    worker = Worker("w0", str(tmp_path / "elsewhere"), {}, 1.0)
    facts = find_model("fake")

    with pytest.raises(StoreNotSharedError, match="elsewhere"):
        worker.load(RenderSpec("fake", facts.path, facts.revision, "auto", {}, 1), (), "t")


def test_a_worker_with_other_weights_refuses_to_draw(job):
    worker = Worker("w0", job.spec.output, {}, 1.0)

    with pytest.raises(ModelError, match="the plan was made with abababababab"):
        worker.load(RenderSpec("fake", "fake:", "ab" * 32, "auto", {}, 1), (), "t")


def test_leases_end_in_commits_and_the_events_carry_their_counts(job):
    worker, _ = ready_worker(job)
    for shard_id in range(4):
        worker.offer(lease(job, shard_id))
    seen = events_until(worker, job, 4, ShardDone)

    done = [event for event in seen if isinstance(event, ShardDone)]
    assert sorted(event.shard_id for event in done) == [0, 1, 2, 3]
    assert all(event.won and event.success == 10 for event in done)
    assert RunFolder(open_store(job.spec.output)).committed() == {0, 1, 2, 3}


def test_a_second_attempt_at_a_committed_shard_loses_and_leaves_the_record(job):
    folder = RunFolder(open_store(job.spec.output))
    for won in (True, False):
        worker, _ = ready_worker(job)
        worker.offer(lease(job, 0))
        done = [e for e in events_until(worker, job, 1, ShardDone) if isinstance(e, ShardDone)]
        record = folder.record(0)

        assert done[0].won is won
        assert done[0].success == 10
    assert record.result.data.key in {
        info.key for info in open_store(job.spec.output).list("data/")
    }


def test_a_drained_worker_returns_its_lease_and_puts_its_pictures_aside(job):
    worker, _ = ready_worker(job, "fake:ms=20")
    spec = job.spec
    worker.offer(lease(job, 0))
    seen = []
    for event in worker.work(spec):
        seen.append(event)
        if isinstance(event, Pulse) and event.finished.get(0, 0) >= 3:
            worker.drain()

    parts = Parts(open_store(spec.output)).list(0)
    assert any(isinstance(event, LeaseReturned) and event.shard_id == 0 for event in seen)
    assert sum(len(part.images) for part in parts) >= 3


def test_an_unopened_lease_is_returned_too(job):
    worker, _ = ready_worker(job)
    worker.drain()
    worker.offer(lease(job, 2))

    seen = list(worker.work(job.spec))

    assert seen == [LeaseReturned("w0", 2)]


def test_the_next_attempt_draws_only_what_no_part_holds(job, monkeypatch):
    test_a_drained_worker_returns_its_lease_and_puts_its_pictures_aside(job)
    kept = {i for part in Parts(open_store(job.spec.output)).list(0) for i in part.images}
    drawn = []
    real = FakeRenderer._draw
    monkeypatch.setattr(
        FakeRenderer, "_draw", lambda s, row, n: drawn.append(row) or real(s, row, n)
    )
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    events_until(worker, job, 1, ShardDone)

    assert kept
    assert {row.image_id for row in drawn} == {(i, 0) for i in range(10)} - kept
    assert not Parts(open_store(job.spec.output)).list(0)


def test_with_the_greatest_care_one_picture_is_drawn_and_saved_at_a_time(job, monkeypatch):
    most, now = [], []
    real = FakeRenderer._draw

    def draw(self, row, lanes):
        now.append(row)
        most.append(len(now))
        image = real(self, row, lanes)
        now.remove(row)
        return image

    saved = []
    monkeypatch.setattr(FakeRenderer, "_draw", draw)
    monkeypatch.setattr(Parts, "store", lambda *args, **_: saved.append(args[5]))
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0, care=CARE_ALONE))
    events_until(worker, job, 1, ShardDone)

    assert set(most) == {1}
    assert [len(images) for images in saved] == [1] * len(saved)
    assert len(saved) >= 9


def test_a_row_that_was_alone_in_two_deaths_is_written_down_as_failed(job):
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0, care=CARE_ALONE, give_up_first=True))
    done = [e for e in events_until(worker, job, 1, ShardDone) if isinstance(e, ShardDone)]

    record = RunFolder(open_store(job.spec.output)).record(0)
    assert (done[0].success, done[0].failed) == (9, 1)
    assert record.result.errors == {"WorkerKilled": 1}


def test_a_renderer_that_breaks_gives_its_shards_back_and_makes_the_worker_unfit(job, monkeypatch):
    def render(self, rows):
        feed = iter(rows)
        yield self._draw(next(feed), 8)
        raise DeviceMemoryError("no memory left")

    monkeypatch.setattr(FakeRenderer, "render", render)
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    seen = list(worker.work(job.spec))

    failed = [event for event in seen if isinstance(event, ShardFailed)]
    assert [(f.shard_id, f.error_type, f.worker_unfit) for f in failed] == [
        (0, "DeviceMemoryError", True)
    ]
    assert sum(len(part.images) for part in Parts(open_store(job.spec.output)).list(0)) == 1


def test_a_manifest_that_changed_ends_the_attempt_with_the_users_exit_code(job, tmp_path):
    pq.write_table(pa.table({"prompt": ["other"] * 40}), tmp_path / "rows.parquet")
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    failed = [e for e in events_until(worker, job, 1, ShardFailed) if isinstance(e, ShardFailed)]

    assert (failed[0].exit_code, failed[0].retryable) == (2, False)


def test_a_failure_of_a_row_is_no_failure_of_the_shard(job, monkeypatch):
    monkeypatch.setattr(FakeRenderer, "_draw", lambda self, row, lanes: RowFailure(row, "E", "no"))
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    done = [e for e in events_until(worker, job, 1, ShardDone) if isinstance(e, ShardDone)]

    assert (done[0].success, done[0].failed) == (0, 10)


def test_the_threads_of_a_worker_are_gone_when_its_work_is_done(job):
    before = threading.active_count()
    worker, _ = ready_worker(job)
    worker.offer(lease(job, 0))
    events_until(worker, job, 1, ShardDone)

    assert threading.active_count() == before

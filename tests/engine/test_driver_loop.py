import random

import pytest

from sdbatch.engine.driver_loop import Stop, drive
from sdbatch.engine.events import LeaseReturned, ShardFailed, WorkerReady
from sdbatch.engine.run_terms import WorkerLeaving, WorkerRefused
from sdbatch.errors import ModelError, PlanChangedError
from tests.engine.standin import RENDER, SPEC, engine_input, make_shards, ready
from tests.engine.world import died, done


class PaperCrew:
    """Workers that commit whatever they are given at the next look; orders are written down."""

    def __init__(self, load=ready):
        self.load, self.orders, self.coming, self.closed = load, [], [], False

    def start(self, worker, render):
        self.orders.append(("start", worker, render))
        self.coming.append(self.load(worker))

    def begin(self, worker, spec):
        self.orders.append(("begin", worker, spec))

    def assign(self, worker, lease):
        self.orders.append(("assign", worker, lease.shard.shard_id))
        self.coming.append(done(worker, lease.shard.shard_id))

    def drain(self, worker, within_s=None):
        self.orders.append(("drain", worker))

    def kill(self, worker, reason):
        self.orders.append(("kill", worker, reason))

    def events(self, timeout_s):
        coming, self.coming = self.coming, []
        return coming

    def close(self, timeout_s):
        self.closed = True


def test_a_run_ends_with_all_shards_committed_and_the_crew_closed(tmp_path):
    run, seen = engine_input(tmp_path, make_shards(8))
    crew = PaperCrew()

    result = drive(run, crew, workers=2)

    assert (result.exit_code, result.reason, result.error) == (0, "", None)
    assert (result.shards, result.success, result.workers_used) == (8, 32, 2)
    assert (result.row_steps, result.lane_steps, result.lane_slots) == (80, 144, 160)
    assert result.phase_seconds == pytest.approx({"load": 0.2, "denoise": 8.0})
    assert 0 < result.startup_s <= result.seconds
    assert crew.closed
    assert seen["progress"][-1].done == 32


def test_the_plan_is_settled_once_before_any_worker_begins(tmp_path):
    settled = []
    run, _ = engine_input(
        tmp_path, make_shards(8), settle=lambda first: settled.append(first.worker) or SPEC
    )
    crew = PaperCrew()
    drive(run, crew, workers=2)
    begun = [order for order in crew.orders if order[0] == "begin"]

    assert settled == ["w0"]
    assert begun == [("begin", "w0", SPEC), ("begin", "w1", SPEC)]
    assert crew.orders.index(begun[0]) < crew.orders.index(("assign", "w0", 0))


def test_a_replacement_loads_what_was_settled(tmp_path):
    run, seen = engine_input(tmp_path, make_shards(3), workers=1, settle=lambda _: SPEC)
    crew = PaperCrew()
    crew.assign = lambda worker, lease: crew.coming.append(
        done(worker, lease.shard.shard_id) if worker == "w1" else died(worker)
    )
    result = drive(run, crew, workers=1, rng=random.Random(1))
    renders = [order[2] for order in crew.orders if order[0] == "start"]

    assert renders[0] is RENDER
    assert renders[1] is SPEC.render
    assert result.workers_lost == 1
    assert seen["notes"] == ["w0 died: killed; its shards are leased again"]


@pytest.mark.parametrize(
    ("preempted", "drained", "notes"),
    [
        (False, False, ["w0 died: killed; its shards are leased again"]),
        (True, False, ["w0 was taken away: killed; its shards are leased again"]),
        (True, True, ["w0 is drained: its node is about to leave"]),
    ],
)
def test_people_hear_of_workers_that_were_lost_and_not_of_those_that_left_in_order(
    tmp_path, preempted, drained, notes
):
    run, seen = engine_input(tmp_path, make_shards(1), workers=1)
    crew = PaperCrew()

    def assign(worker, lease):
        back = [LeaseReturned(worker, 0)]
        end = [WorkerLeaving(worker), *back] if drained else []
        first = [*end, died(worker, preempted=preempted)]
        crew.coming += [done(worker, 0)] if worker == "w1" else first

    crew.assign = assign
    drive(run, crew, workers=1, rng=random.Random(1))

    assert seen["notes"] == notes


def test_an_error_of_a_hook_closes_the_crew_and_reaches_the_caller(tmp_path):
    def settle(_):
        raise PlanChangedError("out", (("dtype", "float32", "float16"),))

    run, _ = engine_input(tmp_path, make_shards(3), settle=settle)
    crew = PaperCrew()

    with pytest.raises(PlanChangedError):
        drive(run, crew, workers=2)
    assert crew.closed


def test_a_hook_hears_of_a_worker_before_the_plan_is_settled(tmp_path):
    order = []
    run, _ = engine_input(
        tmp_path,
        make_shards(1),
        settle=lambda _: order.append("settle") or SPEC,
        on_event=lambda event: order.append(type(event).__name__),
    )
    drive(run, PaperCrew(), workers=1)

    assert order == ["WorkerReady", "settle", "ShardDone"]


def test_the_error_that_ended_a_run_keeps_its_type(tmp_path):
    error = ModelError("no such model")
    run, _ = engine_input(tmp_path, make_shards(3))
    result = drive(run, PaperCrew(lambda worker: WorkerRefused(worker, error)), workers=2)

    assert result.error is error
    assert (result.exit_code, result.reason) == (2, "no such model")


def test_a_stop_is_asked_for_once_and_ends_with_75(tmp_path):
    stop, crew = Stop(), PaperCrew()

    def on_event(event):
        if isinstance(event, WorkerReady):
            stop.request("SIGTERM")
            stop.request("a later reason")

    crew.assign = lambda worker, lease: crew.coming.append(
        LeaseReturned(worker, lease.shard.shard_id)
    )
    run, _ = engine_input(tmp_path, make_shards(8), on_event=on_event, stop=stop)
    result = drive(run, crew, workers=1)

    assert (result.exit_code, result.reason) == (75, "SIGTERM")
    assert crew.orders.count(("drain", "w0")) == 1


def test_a_failed_shard_is_told_to_people(tmp_path):
    run, seen = engine_input(tmp_path, make_shards(1), workers=1)
    crew = PaperCrew()
    crew.assign = lambda worker, lease: crew.coming.append(
        ShardFailed(worker, 0, "DamagedError", "a.parquet: damaged", 3, retryable=False)
    )
    result = drive(run, crew, workers=1)

    assert seen["notes"] == ["shard 00000 failed on w0: a.parquet: damaged"]
    assert (result.exit_code, result.reason) == (3, "shard 00000: a.parquet: damaged")


def test_the_first_reason_to_stop_counts():
    stop = Stop()
    assert not stop.is_set()
    stop.request("SIGINT")
    stop.request("SIGTERM")

    assert stop.is_set()
    assert stop.reason == "SIGINT"

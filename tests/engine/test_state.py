import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.engine.events import (
    Drain,
    Finish,
    Kill,
    LeaseReturned,
    Pulse,
    StopRequested,
)
from sdbatch.engine.run_terms import WorkerLeaving, WorkerRefused
from sdbatch.engine.state import DRAIN_S, EngineState
from sdbatch.errors import ModelError, StoreNotSharedError
from tests.engine.standin import make_shards, ready
from tests.engine.world import (
    World,
    assigned,
    bring_up,
    died,
    done,
    failed,
    finish_of,
    make_state,
    make_terms,
    started,
)

# -- starting workers ------------------------------------------------------------------


def test_a_run_without_open_shards_ends_at_once_and_starts_nobody():
    assert make_state(0).tick(0.0) == [Finish(0, "")]


@pytest.mark.parametrize(
    "error", [ModelError("no such model"), StoreNotSharedError("n7", "s3://b")]
)
def test_a_refusal_that_every_worker_would_meet_ends_the_run_at_once(error):
    state = make_state(workers=4)
    name = started(state.tick(0.0))[0]

    commands = state.handle(WorkerRefused(name, error), 1.0)

    assert commands[-1] == Finish(error.exit_code, str(error))


# -- leases ----------------------------------------------------------------------------


def test_a_worker_holds_two_leases_while_plenty_waits_and_never_three():
    state = make_state(20)
    names, commands = bring_up(state)
    for _ in range(5):
        commands += state.tick(1.0)

    assert sorted(worker for worker, _ in assigned(commands)) == sorted(names * 2)


def test_near_the_end_a_second_lease_waits_until_the_first_runs_dry():
    state = make_state(4, images=100)
    (one, _), commands = bring_up(state)
    early = state.handle(Pulse(one, {0: 10}, 8, "drawing"), 1.0)
    middle = state.handle(Pulse(one, {0: 20}, 8, "drawing"), 2.0)
    late = state.handle(Pulse(one, {0: 76}, 8, "drawing"), 3.0)

    assert len(assigned(commands)) == 2
    assert assigned(early) == assigned(middle) == []
    assert assigned(late) == [(one, 2)]


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("num_shards", [8, 9, 17])
@pytest.mark.parametrize("images", [4, 40])
def test_all_workers_work_to_the_end(workers, num_shards, images):
    shards = make_shards(num_shards, images)
    state = EngineState(shards, make_terms(workers=workers), random.Random(1), 0.0)
    world = World(state, shards, random.Random(1), speeds=(4.0, 3.0, 5.0))

    finish = world.run()

    one_shard_s = images / 3.0
    assert finish == Finish(0, "")
    assert len(world.hands) == workers
    assert all(hand.idle_s <= one_shard_s + 2 for hand in world.hands.values())


# -- shards come back ------------------------------------------------------------------


def test_a_hopeless_failure_drains_the_others_before_the_end():
    state = make_state(3)
    (one, two), commands = bring_up(state)
    assert assigned(commands) == [(one, 0), (two, 1)]

    commands = state.handle(failed(one, 0, retryable=False, exit_code=2), 1.0)
    last = state.handle(LeaseReturned(two, 1), 2.0)

    assert commands == [Drain(one), Drain(two)]
    assert last == [Finish(2, "shard 00000: bucket is gone")]


def test_an_unfit_worker_is_ended_and_replaced_and_its_other_lease_goes_on_elsewhere():
    state = make_state(20)
    (one, two), _ = bring_up(state)

    commands = state.handle(failed(one, 0, unfit=True), 1.0)
    elsewhere = state.handle(done(two, 2), 1.5)
    replaced = state.tick(3.0)

    assert commands == [Kill(one, "bucket is gone")]
    assert assigned(elsewhere) == [(two, 1)]
    assert started(replaced) == ["w2"]


def test_a_shard_that_another_attempt_committed_is_closed_and_counted_once():
    state = make_state(3)
    (one, two), _ = bring_up(state)
    state.handle(died(one), 1.0)
    state.handle(done(two, 1), 2.0)  # takes shard 0 now
    state.handle(done(one, 0), 3.0)  # the dead one had committed it; the news came late
    state.handle(done(two, 0, won=False), 4.0)

    assert (state.tally.shards, state.tally.success) == (2, 8)
    assert state.progress().done == 8
    assert state.handle(done(two, 2), 5.0) == [Finish(0, "")]


# -- deaths ----------------------------------------------------------------------------


def test_a_worker_whose_node_leaves_is_drained_and_gets_nothing_more():
    state = make_state(20)
    (one, _), _ = bring_up(state)
    leaving = state.handle(WorkerLeaving(one), 1.0)
    returned = state.handle(LeaseReturned(one, 0), 2.0) + state.handle(LeaseReturned(one, 1), 2.0)
    gone = state.handle(died(one, preempted=True), 3.0)

    assert leaving[0] == Drain(one)
    assert started(leaving + returned) == ["w2"]
    assert one not in [worker for worker, _ in assigned(leaving + returned + gone)]
    assert state.tally.workers_lost == 0


def test_a_commit_shows_that_deaths_have_not_stopped_the_run():
    state = make_state(40)
    (one, two), _ = bring_up(state)
    for attempt in range(12):
        now = 400.0 * attempt
        assert finish_of(state.handle(died(two), now)) is None
        state.handle(done(one, attempt), now)
        (two,) = started(state.tick(now + 5))
        state.handle(ready(two), now + 5)

    assert state.tally.workers_lost == 12


# -- ends ------------------------------------------------------------------------------


def test_a_stop_drains_all_and_ends_with_75_when_all_leases_are_back():
    state = make_state(8)
    (one, two), commands = bring_up(state)
    held = assigned(commands)

    drains = state.handle(StopRequested("SIGTERM"), 1.0)
    answers = [state.handle(LeaseReturned(*each), 2.0) for each in held]

    assert drains == [Drain(one), Drain(two)]
    assert answers[:-1] == [[]] * (len(held) - 1)
    assert answers[-1] == [Finish(75, "SIGTERM")]


def test_a_worker_that_comes_up_during_the_end_is_drained_and_gets_no_lease():
    state = make_state(8)
    one, two = started(state.tick(0.0))
    state.handle(ready(one), 0.0)
    state.handle(StopRequested("SIGTERM"), 1.0)

    assert state.handle(ready(two), 2.0) == [Drain(two)]


def test_a_stop_does_not_wait_for_ever():
    state = make_state(8)
    bring_up(state)
    state.handle(StopRequested("SIGTERM"), 1.0)

    assert state.tick(DRAIN_S) == []
    assert state.tick(1.0 + DRAIN_S) == [Finish(75, "SIGTERM")]


def test_a_stop_that_comes_with_the_last_commit_is_a_success():
    state = make_state(1, workers=1)
    (name,), _ = bring_up(state)
    state.handle(StopRequested("SIGINT"), 1.0)

    assert state.handle(done(name, 0), 2.0) == [Finish(0, "")]


def test_too_many_failed_pictures_drain_the_run_and_end_it_with_4():
    state = make_state(8, workers=1, stop_after=3, failed_done=100)
    (name,), _ = bring_up(state)
    below = state.handle(done(name, 0, failed=2, success=2), 1.0)
    above = state.handle(done(name, 1, failed=1, success=3), 2.0)
    end = [one for shard in (2, 3) for one in state.handle(LeaseReturned(name, shard), 3.0)]

    assert not any(isinstance(one, Drain) for one in below)
    assert above == [Drain(name)]
    assert end == [Finish(4, "3 pictures failed, the limit is 3")]


def test_nothing_is_decided_after_the_end():
    state = make_state(1, workers=1)
    (name,), _ = bring_up(state)
    state.handle(done(name, 0), 1.0)

    assert state.tick(2.0) == state.handle(died(name), 2.0) == []
    assert state.waiting_line(9999.0) is None


def test_progress_adds_what_stood_before_to_what_is_drawn_now():
    state = EngineState(
        make_shards(2),
        make_terms(images=20, images_done=12, failed_done=1, shards=5, shards_done=3),
        random.Random(1),
        0.0,
    )
    (one, two), _ = bring_up(state)
    state.handle(done(one, 0, success=3, failed=1), 1.0)
    state.handle(Pulse(two, {1: 2}, 2, "drawing"), 2.0)
    progress = state.progress()

    assert (progress.images, progress.done, progress.finished) == (20, 16, 2)
    assert (progress.failed, progress.shards, progress.shards_done) == (2, 5, 4)
    assert (progress.workers_up, progress.workers_wanted, progress.in_flight) == (2, 2, 2)


# -- anything at all -------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_shards=st.integers(1, 25),
    images=st.integers(1, 30),
    workers=st.integers(1, 5),
    faults=st.integers(0, 12),
)
def test_whatever_dies_or_fails_every_shard_is_committed_once_or_the_end_says_why(
    seed, num_shards, images, workers, faults
):
    shards, chance = make_shards(num_shards, images), random.Random(seed)
    terms = make_terms(workers=workers, images=num_shards * images, shards=num_shards)
    state = EngineState(shards, terms, chance, 0.0)
    world = World(state, shards, chance, speeds=(8.0, 5.0), faults=faults)

    finish = world.run()

    assert world.commits == len(world.committed)
    if finish.exit_code == 0:
        assert world.committed == {shard.shard_id for shard in shards}
        assert state.progress().done == num_shards * images
    else:
        assert faults
        assert finish.reason

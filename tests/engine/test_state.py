import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.engine.events import (
    Assign,
    Drain,
    Finish,
    Kill,
    LeaseReturned,
    Pulse,
    StopRequested,
)
from sdbatch.engine.run_terms import Limits, WorkerLeaving, WorkerRefused
from sdbatch.engine.state import EngineState
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

DRAIN_S = Limits().drain_s

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

    assert commands == [Drain(one, DRAIN_S), Drain(two, DRAIN_S)]
    assert last == [Finish(2, "shard 00000: cannot be read")]


def test_an_unfit_worker_is_ended_and_replaced_and_its_other_lease_goes_on_elsewhere():
    state = make_state(20)
    (one, two), _ = bring_up(state)

    commands = state.handle(failed(one, 0, unfit=True), 1.0)
    elsewhere = state.handle(done(two, 2), 1.5)
    replaced = state.tick(3.0)

    assert commands == [Kill(one, "cannot be read")]
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
    assert state.progress(2.0).done == 8
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

    assert drains == [Drain(one, DRAIN_S), Drain(two, DRAIN_S)]
    assert answers[:-1] == [[]] * (len(held) - 1)
    assert answers[-1] == [Finish(75, "SIGTERM")]


def test_a_worker_that_comes_up_during_the_end_is_drained_and_gets_no_lease():
    state = make_state(8)
    one, two = started(state.tick(0.0))
    state.handle(ready(one), 0.0)
    state.handle(StopRequested("SIGTERM"), 1.0)

    assert state.handle(ready(two), 2.0) == [Drain(two, DRAIN_S - 1.0)]


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
    assert above == [Drain(name, DRAIN_S)]
    assert end == [Finish(4, "3 pictures failed, the limit is 3")]


def test_a_limit_of_0_ends_the_run_at_the_first_failure_and_says_so():
    state = make_state(8, workers=1, stop_after=0)
    (name,), _ = bring_up(state)
    well = state.handle(done(name, 0, success=4), 1.0)
    state.handle(done(name, 1, failed=3, success=1), 2.0)
    end = [one for shard in (2, 3) for one in state.handle(LeaseReturned(name, shard), 3.0)]

    assert not any(isinstance(one, Drain) for one in well)
    reason = "3 pictures failed, the limit is 0: the first shard with a failure ends the run"
    assert end == [Finish(4, reason)]


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
    progress = state.progress(2.0)

    assert (progress.images, progress.done, progress.finished) == (20, 16, 2)
    assert (progress.failed, progress.shards, progress.shards_done) == (2, 5, 4)
    assert (progress.workers_up, progress.workers_wanted, progress.in_flight) == (2, 2, 2)


# -- limits ----------------------------------------------------------------------------


def test_a_run_drains_when_its_time_is_over_and_ends_with_75():
    state = make_state(8, workers=1, stop_after_s=7200.0, ends_at=500.0)
    (name,), _ = bring_up(state)
    state.handle(Pulse(name, {0: 1}, 1, "drawing"), 499.0)
    before, at = state.tick(499.5), state.tick(500.0)
    end = [one for shard in (0, 1) for one in state.handle(LeaseReturned(name, shard), 501.0)]

    assert before == []
    assert at == [Drain(name, DRAIN_S)]
    assert end == [Finish(75, "--stop-after 2h00m is over")]


def test_the_grace_of_a_drain_is_the_callers():
    state = make_state(8, workers=1, drain_s=25.0)
    (name,), _ = bring_up(state)

    assert state.handle(StopRequested("SIGTERM"), 1.0) == [Drain(name, 25.0)]
    assert state.tick(25.9) == []
    assert state.tick(26.0) == [Finish(75, "SIGTERM")]


def test_a_revision_is_leased_as_such():
    shards = make_shards(2)
    terms = make_terms(workers=1, shards=2)
    state = EngineState(shards, terms, random.Random(1), 0.0, {1: 3})
    (name,), commands = bring_up(state)
    commands += state.handle(done(name, 0), 1.0)
    leases = {one.lease.shard.shard_id: one.lease for one in commands if isinstance(one, Assign)}

    assert (leases[0].revision, leases[1].revision) == (0, 3)


# -- anything at all -------------------------------------------------------------------

RUNS = {
    "seed": st.integers(0, 2**32),
    "num_shards": st.integers(1, 25),
    "images": st.integers(1, 30),
    "workers": st.integers(1, 5),
}


def world_of(seed, num_shards, images, workers, speeds, limits=None, **knobs):
    shards, chance = make_shards(num_shards, images), random.Random(seed)
    terms = make_terms(
        workers=workers, images=num_shards * images, shards=num_shards, **(limits or {})
    )
    return World(EngineState(shards, terms, chance, 0.0), shards, chance, speeds, **knobs)


@settings(max_examples=150, deadline=None)
@given(**RUNS, faults=st.integers(0, 12))
def test_whatever_dies_or_fails_every_shard_is_committed_once_or_the_end_says_why(
    seed, num_shards, images, workers, faults
):
    world = world_of(seed, num_shards, images, workers, (8.0, 5.0), faults=faults)

    finish = world.run()

    assert world.commits == len(world.committed)
    if finish.exit_code == 0:
        assert world.committed == set(range(num_shards))
        assert world.state.progress(world.now).done == num_shards * images
    else:
        assert faults
        assert finish.reason


@settings(max_examples=80, deadline=None)
@given(
    **RUNS,
    faults=st.integers(0, 6),
    nodes=st.integers(1, 3),
    slowest=st.sampled_from([5.0, 0.5, 0.05]),
    outage=st.none() | st.tuples(st.floats(0, 60), st.floats(1, 2000)),
    full=st.sampled_from([0.0, 0.0, 0.1, 1.0]),
    rooms=st.lists(st.tuples(st.floats(1, 60), st.integers(1, 6)), max_size=3),
    stop_at=st.none() | st.floats(0, 120),
)
def test_in_any_weather_a_run_ends_with_all_committed_or_with_a_stated_reason_and_code(
    seed, num_shards, images, workers, faults, nodes, slowest, outage, full, rooms, stop_at
):
    world = world_of(
        seed, num_shards, images, workers, (8.0, 5.0, slowest),
        faults=faults, nodes=nodes, full=full, rooms=rooms, stop_at=stop_at, dt=0.5,
        outages=((outage[0], outage[0] + outage[1]),) if outage else (),
    )  # fmt: skip

    finish = world.run()

    assert world.commits == len(world.committed)
    if finish.exit_code == 0:
        assert world.committed == set(range(num_shards))
        return
    assert finish.reason
    assert finish.exit_code in {
        *((1, 5) if faults else ()), *((3,) if full or outage else ()),
        *((75,) if stop_at is not None else ()),
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(**RUNS)
def test_nothing_goes_wrong_in_a_world_where_nothing_does(seed, num_shards, images, workers):
    world = world_of(seed, num_shards, images, workers, (8.0, 5.0, 0.3))

    assert world.run() == Finish(0, "")
    assert world.state.tally.workers_lost == 0


def run_with_a_straggler(speculate):
    limits = {"speculate": speculate}
    world = world_of(1, 9, 40, 3, (4.0, 4.0, 0.1), limits=limits)
    assert world.run() == Finish(0, "")
    return world


def test_speculation_shortens_the_tail_of_a_slow_worker():
    alone, helped = run_with_a_straggler(speculate=False), run_with_a_straggler(speculate=True)

    assert alone.joined == 0
    assert helped.joined >= 1
    assert helped.now < 0.3 * alone.now

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.engine.events import (
    CARE_ALONE,
    CARE_NORMAL,
    CARE_PARTS,
    Assign,
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


@pytest.mark.parametrize(("shards", "wanted", "expected"), [(8, 2, 2), (1, 8, 1), (500, 200, 64)])
def test_no_more_workers_start_than_wanted_than_have_work_and_than_a_wave(shards, wanted, expected):
    state = make_state(shards, workers=wanted)

    assert len(started(state.tick(0.0))) == expected
    assert started(state.tick(0.5)) == []


def test_the_next_wave_follows_as_workers_come_up():
    state = make_state(500, workers=200)
    first = started(state.tick(0.0))

    commands = state.handle(ready(first[0]), 1.0)

    assert len(started(commands)) == 1


def test_three_failing_starts_in_a_row_end_a_run_that_never_had_a_worker():
    state = make_state(workers=1)
    now = 0.0
    for attempt in range(3):
        names = started(state.tick(now))
        assert len(names) == 1
        commands = state.handle(died(names[0], init=True, exit_code=3), now)
        assert started(state.tick(now)) == [], "the next start comes after a pause"
        now += 10.0

    assert attempt == 2
    assert finish_of(commands).exit_code == 3
    assert "3 in a row: killed" in finish_of(commands).reason


def test_failing_starts_after_a_first_success_only_slow_down():
    state = make_state(workers=2)
    first, second = started(state.tick(0.0))
    state.handle(ready(first), 1.0)
    pauses = []
    for _ in range(8):
        asked = now = 1000.0 * (len(pauses) + 1)
        assert finish_of(state.handle(died(second, init=True), now)) is None
        state.handle(Pulse(first, {}, 0, "waiting"), now)
        while not (names := started(state.tick(now))):
            state.handle(Pulse(first, {}, 0, "waiting"), now)
            now += 0.5
        pauses.append(now - asked)
        (second,) = names

    assert pauses[0] <= 1.5
    assert 3.5 <= pauses[1] <= 5.5
    assert 220 <= pauses[-1] <= 300.5


@pytest.mark.parametrize(
    "error", [ModelError("no such model"), StoreNotSharedError("n7", "s3://b")]
)
def test_a_refusal_that_every_worker_would_meet_ends_the_run_at_once(error):
    state = make_state(workers=4)
    name = started(state.tick(0.0))[0]

    commands = state.handle(WorkerRefused(name, error), 1.0)

    assert commands[-1] == Finish(error.exit_code, str(error))


def test_a_run_without_workers_says_so_every_half_minute_and_gives_up_in_time():
    state = make_state(workers=8, wait_s=1800.0)
    state.tick(0.0)
    lines = [line for now in range(0, 371, 10) if (line := state.waiting_line(float(now)))]

    finish = finish_of(state.tick(1800.0))

    assert len(lines) == 12
    assert lines[0] == "waiting for GPUs: 0 of 8 workers, 30s"
    assert lines[-1] == "waiting for GPUs: 0 of 8 workers, 6m"
    assert finish == Finish(5, "no worker came up within 30m: still waiting for GPUs")


def test_nobody_waits_for_workers_once_one_is_up():
    state = make_state()
    bring_up(state)

    assert state.waiting_line(100.0) is None
    assert finish_of(state.tick(100.0)) is None


# -- leases ----------------------------------------------------------------------------


def test_shards_are_leased_in_the_order_given():
    state = make_state(8, workers=1)
    (name,), commands = bring_up(state)
    order = [shard for _, shard in assigned(commands)]
    for shard in range(7):
        order += [shard for _, shard in assigned(state.handle(done(name, shard), 1.0))]

    assert order == list(range(8))


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


def test_a_returned_shard_is_leased_again_before_later_ones():
    state = make_state(8, workers=1)
    (name,), commands = bring_up(state)

    again = state.handle(LeaseReturned(name, 0), 1.0)

    assert assigned(commands) == [(name, 0), (name, 1)]
    assert assigned(again) == [(name, 0)]


def test_a_failed_shard_rests_and_is_then_tried_again_as_often_as_allowed():
    state = make_state(1, workers=1, retries=2)
    (name,), _ = bring_up(state)
    now, attempts = 0.0, 1
    while (finish := finish_of(state.handle(failed(name, 0), now))) is None:
        while not (commands := assigned(state.tick(now))):
            now += 0.5
        assert commands == [(name, 0)]
        attempts += 1
    finish = finish or finish_of(state.tick(now))

    assert attempts == 3
    assert now >= 2.0 + 4.0
    assert finish == Finish(3, "shard 00000: bucket is gone")


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
    state = make_state(2)
    (one, two), _ = bring_up(state)
    state.handle(died(one), 1.0)
    state.handle(done(two, 1), 2.0)  # takes shard 0 now
    state.handle(done(one, 0), 3.0)  # the dead one had committed it; the news came late

    assert state.handle(done(two, 0, won=False), 4.0) == []
    assert (state.tally.shards, state.tally.success) == (2, 8)
    assert state.progress().done == 8


# -- deaths ----------------------------------------------------------------------------


def succeed(state, name, now, preempted=False):
    """Let the only worker die and be replaced: (its successor, the lease of that, when)."""
    names = started(state.handle(died(name, preempted=preempted), now))
    while not names:
        names = started(state.tick(now))
        now += 0.0 if names else 0.5
    commands = state.handle(ready(names[0]), now)
    return names[0], next(one.lease for one in commands if isinstance(one, Assign)), now


def test_a_dead_worker_is_replaced_after_a_moment_and_its_shard_drawn_with_more_care():
    state = make_state(1, workers=1)
    (name,), _ = bring_up(state)

    name, lease, now = succeed(state, name, 10.0)

    assert 10.5 <= now <= 11.0
    assert (lease.attempt, lease.care) == (2, CARE_PARTS)


def test_a_picture_is_given_up_after_it_killed_its_worker_twice_alone():
    state = make_state(1, workers=1, images=10)
    (name,), commands = bring_up(state)
    lease, now, ladder = commands[0].lease, 0.0, []
    for _ in range(5):
        ladder.append((lease.care, lease.give_up_first))
        state.handle(Pulse(name, {0: 3}, 1, "drawing"), now)
        name, lease, now = succeed(state, name, now)

    assert ladder == [
        (CARE_NORMAL, False),
        (CARE_PARTS, False),
        (CARE_ALONE, False),
        (CARE_ALONE, False),
        (CARE_ALONE, True),
    ]
    assert not lease.give_up_first, "the next picture must be found guilty for itself"


def test_deaths_at_different_pictures_give_none_of_them_up():
    state = make_state(1, workers=1, images=100)
    (name,), commands = bring_up(state)
    lease, now = commands[0].lease, 0.0
    for finished in range(0, 90, 10):
        state.handle(Pulse(name, {0: finished}, 1, "drawing"), now)
        name, lease, now = succeed(state, name, now)

        assert not lease.give_up_first


def test_a_death_with_its_node_counts_against_no_picture():
    state = make_state(1, workers=1)
    (name,), _ = bring_up(state)
    lease = None
    for attempt in range(8):
        name, lease, _ = succeed(state, name, float(attempt), preempted=True)

    assert (lease.attempt, lease.care) == (9, CARE_NORMAL)


def test_a_shard_under_suspicion_is_drawn_without_company():
    state = make_state(20)
    (one, two), _ = bring_up(state)  # shards 0 and 1, 2 and 3
    state.handle(died(one), 1.0)
    still_busy = state.handle(done(two, 2), 1.1)
    idle = state.handle(done(two, 3), 1.2)
    alone = state.tick(1.3)

    assert assigned(still_busy) == assigned(alone) == []
    assert assigned(idle) == [(two, 0)]


def test_workers_that_only_die_end_the_run():
    state = make_state(40)
    names, _ = bring_up(state)
    now, deaths, finish = 0.0, 0, None
    while finish is None:
        deaths += 1
        finish = finish_of(state.handle(died(names.pop()), now))
        while finish is None and not names:
            now += 0.5
            names = started(state.tick(now))
            for name in names:
                state.handle(ready(name), now)

    assert deaths == 6
    assert finish.exit_code == 5
    assert "6 workers died in a row" in finish.reason


@pytest.mark.parametrize(("gap", "hung"), [(299.0, False), (301.0, True)])
def test_a_silent_worker_is_ended_and_its_shard_leased_again(gap, hung):
    state = make_state(2)
    (one, two), _ = bring_up(state)
    for now in range(int(gap)):
        state.handle(Pulse(two, {1: 0}, 1, "drawing"), float(now))

    commands = state.tick(gap)

    assert any(isinstance(one, Kill) for one in commands) is hung
    assert (started(state.tick(gap + 2)) == ["w2"]) is hung
    assert one not in (view.name for view in state._pool.views.values()) or not hung


def test_an_idle_worker_may_be_silent():
    state = make_state(3, workers=2)
    (one, two), _ = bring_up(state)
    state.handle(done(one, 0), 1.0)
    state.handle(done(one, 2), 2.0)
    for now in range(1000):
        state.handle(Pulse(two, {1: 0}, 1, "drawing"), float(now))

    assert state.tick(1000.0) == []


def test_a_worker_that_pulses_without_a_picture_is_ended_once_it_is_known_how_long_they_take():
    state = make_state(2, images=100)
    (one, two), _ = bring_up(state)
    unknown, now = [], 0.0
    for now in range(4000):
        state.handle(Pulse(one, {0: 0}, 1, "drawing"), float(now))
        state.handle(Pulse(two, {1: 0}, 1, "drawing"), float(now))
        unknown += state.tick(float(now))
    known = []
    for now in range(4000, 4060):
        state.handle(Pulse(one, {0: 0}, 1, "drawing"), float(now))
        state.handle(Pulse(two, {1: (now - 4000) // 6}, 1, "drawing"), float(now))
        known += state.tick(float(now))

    assert unknown == []
    assert [command.worker for command in known if isinstance(command, Kill)] == [one]


def test_a_worker_whose_node_leaves_is_drained_and_gets_nothing_more():
    state = make_state(20)
    (one, two), _ = bring_up(state)
    leaving = state.handle(WorkerLeaving(one), 1.0)
    returned = state.handle(LeaseReturned(one, 0), 2.0) + state.handle(LeaseReturned(one, 1), 2.0)
    gone = state.handle(died(one, preempted=True), 3.0)

    assert leaving[0] == Drain(one)
    assert started(leaving + returned) == ["w2"]
    assert one not in [worker for worker, _ in assigned(leaving + returned + gone)]
    assert state.tally.workers_lost == 0


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

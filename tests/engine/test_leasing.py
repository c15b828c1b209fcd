"""Help for the slowest: who is helped, by whom, and what becomes of it."""

import pytest

from sdbatch.engine.events import (
    Abandon,
    Assign,
    Drain,
    Finish,
    LeaseReturned,
    Pulse,
    Share,
)
from tests.engine.world import (
    assigned,
    bring_up,
    died,
    done,
    failed,
    finish_of,
    make_state,
    store_failed,
)

IMAGES = 100


def pulse(state, name, shard_id, finished, now):
    return state.handle(Pulse(name, {shard_id: finished}, 1, "drawing"), float(now))


def tail(state, names, until, speeds):
    """All draw their first shard at their speed (pictures a second) up to a moment."""
    said = []
    for now in range(1, until + 1):
        for shard, (name, speed) in enumerate(zip(names, speeds, strict=True)):
            said += pulse(state, name, shard, int(speed * now), now)
        said += state.tick(float(now))
    return said


def helped(commands):
    return [one for one in commands if isinstance(one, Assign) and one.lease.reverse]


def three_and_a_straggler(**terms):
    """Three workers, one shard each; the first is done at 50 s, the third is slow."""
    state = make_state(3, workers=3, images=IMAGES, **terms)
    names, _ = bring_up(state)
    said = tail(state, names, 50, (2.0, 1.9, 0.1))
    assert not helped(said), "nobody is idle yet"
    said = state.handle(done(names[0], 0, success=IMAGES), 50.0) + state.tick(50.5)
    return state, names, said


def test_an_idle_worker_joins_the_one_with_longest_to_go_from_the_other_end():
    _, (one, _, three), said = three_and_a_straggler()
    (assign,) = helped(said)

    assert (assign.worker, assign.lease.shard.shard_id) == (one, 2)
    assert assign.lease.attempt == 2
    assert Share(three, 2) in said


def test_no_one_is_helped_when_the_caller_does_not_want_it():
    _, _, said = three_and_a_straggler(speculate=False)

    assert said == []


def test_a_shard_never_has_two_helpers_and_a_helper_no_helper():
    state, (one, two, three), _ = three_and_a_straggler()
    said = state.handle(done(two, 1, success=IMAGES), 60.0)
    for now in range(60, 300):
        pulse(state, one, 2, 10, now)
        pulse(state, three, 2, 5, now)
        said += state.tick(float(now))

    assert not helped(said)


def test_a_shard_that_is_nearly_done_is_not_worth_a_start():
    state = make_state(2, workers=2, images=IMAGES)
    names, _ = bring_up(state)
    tail(state, names, 49, (2.0, 1.9))
    said = state.handle(done(names[0], 0, success=IMAGES), 50.0)
    for now in (50, 51, 52):
        said += pulse(state, names[1], 1, 92 + 2 * (now - 50), now) + state.tick(float(now))

    assert not helped(said)


def test_a_shard_under_suspicion_is_drawn_by_one_worker_alone():
    state = make_state(2, workers=2, images=IMAGES)
    (one, two), _ = bring_up(state)
    tail(state, (one, two), 20, (4.0, 1.0))
    state.handle(done(one, 0, success=IMAGES), 20.5)
    said = state.handle(died(two), 21.0)  # its shard goes on at `one`, with care
    assert assigned(said) == [(one, 1)]
    (three,) = [one.worker for now in (22, 24) for one in state.tick(float(now))] or [None]
    for now in range(25, 100):
        pulse(state, one, 1, 10, now)
        said += state.tick(float(now))

    assert three is None, "nothing waits, so nobody is started either"
    assert not helped(said)


def test_the_first_commit_wins_and_the_other_is_called_off_at_once():
    state, (one, _, three), _ = three_and_a_straggler()
    said = state.handle(done(one, 2, success=IMAGES), 80.0)

    assert Abandon(three, 2) in said
    assert state.tally.shards == 2
    late = state.handle(done(three, 2, won=False, success=IMAGES), 80.5)
    assert late == []
    assert state.tally.shards == 2


def test_a_helper_is_called_away_when_work_turns_up():
    state, (one, two, three), _ = three_and_a_straggler()
    said = state.handle(LeaseReturned(two, 1), 60.0)  # `two` may take it again itself
    taken = assigned(said)
    assert taken in ([(one, 1)], [(two, 1)])

    state, (one, two, three), _ = three_and_a_straggler()
    said = state.handle(died(two, preempted=True), 60.0)

    assert said == [Abandon(one, 2), Assign(one, said[1].lease)]
    assert (said[1].lease.shard.shard_id, said[1].lease.reverse) == (1, False)
    assert finish_of(state.handle(done(three, 2, success=IMAGES), 61.0)) is None


def test_a_helper_whose_partner_is_gone_owns_the_shard():
    state, (one, two, three), _ = three_and_a_straggler()
    state.handle(died(three, preempted=True), 60.0)
    said = state.handle(died(two, preempted=True), 61.0)

    assert Abandon(one, 2) not in said, "its shard is as good as any other"
    assert finish_of(state.handle(done(one, 2, success=IMAGES), 70.0)) is None


def test_a_helper_that_fails_costs_the_shard_no_attempt():
    state, (one, _, three), _ = three_and_a_straggler(retries=0)

    assert finish_of(state.handle(failed(one, 2), 60.0)) is None
    assert finish_of(state.handle(done(three, 2, success=IMAGES), 61.0)) is None


def test_nobody_helps_while_the_store_fails():
    state = make_state(3, workers=3, images=IMAGES)
    names, _ = bring_up(state)
    tail(state, names, 49, (2.0, 1.9, 0.1))
    state.handle(done(names[0], 0, success=IMAGES), 50.0)
    said = state.handle(store_failed(names[1], 1), 50.2) + state.tick(50.5)

    assert not helped(said)


@pytest.mark.parametrize("slow", [0.0, 0.05])
def test_a_worker_that_stands_still_is_helped_without_waiting_for_the_watchdog(slow):
    state = make_state(2, workers=2, images=IMAGES)
    names, _ = bring_up(state)
    tail(state, names, 49, (2.0, slow))
    said = state.handle(done(names[0], 0, success=IMAGES), 50.0) + state.tick(50.5)

    assert len(helped(said)) == 1
    assert not any(isinstance(one, Drain | Finish) for one in said)

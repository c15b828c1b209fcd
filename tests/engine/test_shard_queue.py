from sdbatch.engine.events import (
    CARE_ALONE,
    CARE_NORMAL,
    CARE_PARTS,
    Assign,
    Finish,
    LeaseReturned,
    Pulse,
)
from tests.engine.standin import ready
from tests.engine.world import (
    assigned,
    bring_up,
    died,
    done,
    failed,
    finish_of,
    make_state,
    started,
)


def test_shards_are_leased_in_the_order_given():
    state = make_state(8, workers=1)
    (name,), commands = bring_up(state)
    order = [shard for _, shard in assigned(commands)]
    for shard in range(7):
        order += [shard for _, shard in assigned(state.handle(done(name, shard), 1.0))]

    assert order == list(range(8))


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
    assert finish == Finish(1, "shard 00000: cannot be read")


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

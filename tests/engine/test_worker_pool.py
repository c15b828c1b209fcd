from dataclasses import replace

import pytest

from sdbatch.engine.events import (
    Drain,
    Finish,
    Kill,
    LeaseReturned,
    Pulse,
)
from sdbatch.engine.run_terms import RoomChanged
from sdbatch.engine.watchdog import duration
from tests.engine.standin import ready
from tests.engine.world import (
    assigned,
    bring_up,
    died,
    done,
    finish_of,
    make_state,
    started,
)


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
    for _ in range(3):
        names = started(state.tick(now))
        assert len(names) == 1
        commands = state.handle(died(names[0], init=True, exit_code=3), now)
        assert started(state.tick(now)) == [], "the next start comes after a pause"
        now += 10.0

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

    assert 3.5 <= pauses[0] <= 5.5
    assert 7.5 <= pauses[1] <= 10.5
    assert 220 <= pauses[-1] <= 300.5


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
    state = make_state(3, workers=2, speculate=False)
    (one, two), _ = bring_up(state)
    state.handle(done(one, 0), 1.0)
    state.handle(done(one, 2), 2.0)
    told = []
    for now in range(1000):
        state.handle(Pulse(two, {1: 0}, 1, "drawing"), float(now))
        told += state.tick(float(now))

    assert told == [Drain(one)], "it is given back, not ended for its silence"


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


def test_nobody_is_started_for_work_that_an_idle_worker_takes():
    state = make_state(3, workers=3)
    (one, two, _), _ = bring_up(state)
    state.handle(done(two, 1), 1.0)

    commands = state.handle(died(one, preempted=True), 2.0)

    assert started(commands) == []
    assert assigned(commands) == [(two, 0)]


def test_nobody_is_started_for_work_that_a_starting_worker_will_take():
    state = make_state(3, workers=3)
    one, *_ = started(state.tick(0.0))
    state.handle(ready(one), 1.0)
    state.handle(done(one, 0), 2.0)  # goes on with shard 1; shard 2 waits for two starting workers

    assert started(state.handle(died(one, preempted=True), 3.0)) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.4, "45s"), (370, "6m10s"), (1800, "30m"), (7500, "2h05m")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


# -- as many as asked, as many as there is room for ------------------------------------


def test_a_run_begins_with_the_first_worker_and_goes_on_asking_for_the_others():
    state = make_state(40, workers=8, min_workers=4, wait_s=100.0)
    names = started(state.tick(0.0))

    assert len(names) == 8
    assert assigned(state.handle(ready(names[0]), 1.0))


def test_fewer_workers_than_the_minimum_for_too_long_end_the_run_in_order():
    state = make_state(40, workers=8, min_workers=4, wait_s=100.0)
    names = started(state.tick(0.0))
    for name in names[:3]:
        state.handle(ready(name), 1.0)
    line = state.waiting_line(31.0)
    before = state.tick(99.0)
    drains = state.tick(100.0)

    assert line == "waiting for GPUs: 3 of 8 workers, at least 4 are asked for, 31s"
    assert finish_of(before) is None
    assert [one.worker for one in drains if isinstance(one, Drain)] == names[:3]
    held = [(view.name, shard) for view in state._pool.views.values() for shard in view.leases]
    ends = [state.handle(LeaseReturned(*each), 101.0) for each in held]
    assert finish_of(ends[-1]) == Finish(
        5, "3 of at least 4 workers came up within 1m40s: still waiting for GPUs"
    )


def test_the_minimum_counts_only_while_there_is_work_that_nobody_holds():
    state = make_state(3, workers=3, min_workers=3, wait_s=100.0, speculate=False)
    one, two, three = started(state.tick(0.0))
    for name in (one, two, three):
        state.handle(ready(name), 0.0)
    state.handle(done(one, 0), 1.0)
    state.handle(died(one, preempted=True), 2.0)
    told = []
    for now in range(3, 290):
        for name, shard in ((two, 1), (three, 2)):
            state.handle(Pulse(name, {shard: 0}, 1, "drawing"), float(now))
        told += state.tick(float(now))

    assert told == []


def test_a_worker_that_comes_late_ends_the_countdown():
    state = make_state(40, workers=2, min_workers=2, wait_s=100.0)
    one, two = started(state.tick(0.0))
    state.handle(ready(one), 1.0)
    state.handle(Pulse(one, {0: 1}, 1, "drawing"), 99.0)
    state.handle(ready(two), 99.5)

    assert finish_of(state.tick(150.0)) is None


def test_the_pool_grows_and_shrinks_with_the_room():
    state = make_state(100, workers=2)
    first, _ = bring_up(state)
    grown = started(state.handle(RoomChanged(5), 1.0))
    state.handle(RoomChanged(1), 2.0)
    after_a_death = started(state.handle(died(first[0], preempted=True), 3.0))

    assert len(grown) == 3
    assert after_a_death == []
    assert state.progress(3.0).workers_wanted == 1
    assert state.progress(3.0).workers_starting == 3


def test_room_for_fewer_than_the_minimum_still_asks_for_the_minimum():
    state = make_state(100, workers=1, min_workers=3)

    assert len(started(state.tick(0.0))) == 3


def test_workers_are_given_back_at_the_tail_but_never_one_that_an_open_shard_could_need():
    state = make_state(4, workers=4, speculate=False)
    names, _ = bring_up(state)
    state.handle(done(names[0], 0), 1.0)
    state.handle(done(names[1], 1), 2.0)
    told = {}
    for now in range(3, 100):
        for name, shard in ((names[2], 2), (names[3], 3)):
            state.handle(Pulse(name, {shard: 1}, 1, "drawing"), float(now))
        told[now] = state.tick(float(now))

    drained = [(now, one.worker) for now, commands in told.items() for one in commands]
    assert sorted(name for _, name in drained) == names[:2]
    assert all(now >= 60 for now, _ in drained)


def test_workers_that_never_found_room_are_called_off_when_nothing_waits_any_more():
    state = make_state(3, workers=3, speculate=False)
    one, two, three = started(state.tick(0.0))
    state.handle(ready(one), 1.0)
    state.handle(done(one, 0), 2.0)
    state.handle(done(one, 1), 3.0)  # it holds the last shard now
    told = []
    for now in range(4, 80):
        state.handle(Pulse(one, {2: 1}, 1, "drawing"), float(now))
        told += state.tick(float(now))

    assert told == [Kill(two, ""), Kill(three, "")]
    assert state.tally.workers_lost == 0


def test_while_starts_fail_one_at_a_time_is_tried():
    state = make_state(40, workers=6)
    names = started(state.tick(0.0))
    state.handle(ready(names[0]), 0.0)
    for name in names[1:]:
        state.handle(died(name, init=True), 1.0)
    tries = [started(state.tick(float(now))) for now in range(2, 400)]

    assert max(len(each) for each in tries) == 1


def test_failing_starts_do_not_end_the_run_while_others_may_still_succeed():
    state = make_state(40, workers=6)
    names = started(state.tick(0.0))
    ends = [finish_of(state.handle(died(name, init=True), 1.0)) for name in names[:5]]

    assert ends == [None] * 5
    assert assigned(state.handle(ready(names[5]), 2.0))


def test_hours_count_workers_that_load_or_are_up_by_device():
    state = make_state(4, workers=2)
    one, two = started(state.tick(0.0))
    gpu = replace(ready(one), env=replace(ready(one).env, device="cuda"), load_seconds=100.0)
    state.handle(gpu, 100.0)
    state.handle(replace(ready(two), load_seconds=0.0), 1900.0)
    state.handle(died(one), 3600.0)
    progress = state.progress(5500.0)

    assert progress.gpu_hours == 1.0
    assert progress.worker_hours == 2.0


# -- a shard that stands still -----------------------------------------------------------


def test_a_shard_that_stands_still_while_its_worker_moves_on_ends_the_worker():
    state = make_state(40, workers=1, images=1000)
    (name,), _ = bring_up(state)
    kills = []
    for now in range(4000):
        state.handle(Pulse(name, {0: min(now, 10), 1: now // 6}, 4, "drawing"), float(now))
        kills += [(now, one) for one in state.tick(float(now)) if isinstance(one, Kill)]

    (when, kill), *_ = kills
    assert 1800 <= when <= 1900
    assert kill == Kill(name, "shard 00000 stands still for 30m01s while others move")

import pytest

from sdbatch.engine.events import (
    Finish,
    Kill,
    Pulse,
)
from sdbatch.engine.worker_pool import duration
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

    assert pauses[0] <= 1.5
    assert 3.5 <= pauses[1] <= 5.5
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

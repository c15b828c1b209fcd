"""One driver at a time: who is gone is replaced, who is there is left alone."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest

from sdbatch.errors import LeaseHeldError
from sdbatch.storage import layout, lease
from sdbatch.storage.lease import hold_lease, newest_epoch, read_heartbeat
from sdbatch.storage.process_identity import this_process
from sdbatch.storage.store import open_store
from tests.storage.stores import memory_store

ELSEWHERE = replace(this_process(), host="other-machine")
HERE_BUT_GONE = replace(this_process(), pid=2**22 + 1, started="1")


class Time:
    """A clock that only moves when somebody sleeps; `meanwhile` runs in every sleep."""

    def __init__(self, meanwhile=lambda: None):
        self.now, self.meanwhile = 1000.0, meanwhile

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.meanwhile()


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    return open_store(tmp_path / "out") if request.param == "local" else memory_store()


def leave_behind(store, owner):
    """The epoch of a driver that was killed."""
    with hold_lease(store, owner=owner) as held:
        pass
    beat(store, held.epoch.number, 1)
    return held.epoch


def beat(store, number, count, ended=False):
    body = {"beat": count, "at": "2026-01-01T00:00:00+00:00", "ended": ended}
    store.put(layout.heartbeat_key("main", number), json.dumps(body).encode())


def test_epochs_rise_and_a_released_lease_makes_nobody_wait(store):
    waits = []
    for expected in (1, 2, 3):
        with hold_lease(store, on_wait=waits.append, sleep=waits.append) as held:
            assert held.epoch.number == expected
            assert not read_heartbeat(store, "main", expected).ended
        assert read_heartbeat(store, "main", expected).ended

    assert waits == []


def test_a_driver_that_died_on_this_machine_is_replaced_at_once(store):
    leave_behind(store, HERE_BUT_GONE)
    waits = []
    with hold_lease(store, on_wait=waits.append, sleep=waits.append) as held:
        assert held.epoch.number == 2

    assert waits == []


def test_an_earlier_lease_of_this_very_process_that_nobody_holds_is_replaced_at_once(store):
    leave_behind(store, this_process())
    with hold_lease(store, sleep=pytest.fail) as held:
        assert held.epoch.number == 2


def test_a_silent_driver_elsewhere_is_replaced_after_45_seconds_of_our_clock(store):
    leave_behind(store, ELSEWHERE)
    watch, waits = Time(), []
    with hold_lease(store, on_wait=waits.append, clock=watch.clock, sleep=watch.sleep) as held:
        assert held.epoch.number == 2

    assert watch.now - 1000.0 == pytest.approx(lease.STALE_S, abs=lease.POLL_S)
    assert waits == [
        f"waiting up to 45 s for a sign of life of the last driver (pid {ELSEWHERE.pid} on "
        "other-machine)"
    ]


def test_a_driver_elsewhere_that_never_beat_is_replaced_too(store):
    epoch = leave_behind(store, ELSEWHERE)
    store.delete(layout.heartbeat_key("main", epoch.number))
    watch = Time()
    with hold_lease(store, clock=watch.clock, sleep=watch.sleep) as held:
        assert held.epoch.number == 2


def test_a_heartbeat_that_moves_refuses_the_second_driver(store):
    epoch = leave_behind(store, ELSEWHERE)
    counter = iter(range(2, 1000))
    watch = Time()
    watch.meanwhile = lambda: watch.now > 1009 and beat(store, epoch.number, next(counter))

    with (
        pytest.raises(LeaseHeldError, match="another driver is at work") as caught,
        hold_lease(store, clock=watch.clock, sleep=watch.sleep),
    ):
        pytest.fail("the lease was given")

    assert caught.value.exit_code == 5
    assert watch.now < 1012
    assert newest_epoch(store).number == 1


def test_two_drivers_in_one_process_refuse_each_other(store):
    with hold_lease(store) as held:
        watch = Time(meanwhile=held.beat)
        with (
            pytest.raises(LeaseHeldError),
            hold_lease(store, clock=watch.clock, sleep=watch.sleep),
        ):
            pytest.fail("the lease was given")


def test_a_driver_that_ends_while_we_wait_is_replaced_then(store):
    epoch = leave_behind(store, ELSEWHERE)
    watch = Time(meanwhile=lambda: beat(store, epoch.number, 2, ended=True))
    with hold_lease(store, clock=watch.clock, sleep=watch.sleep) as held:
        assert held.epoch.number == 2

    assert watch.now == 1000.0 + lease.POLL_S


def test_a_replaced_driver_learns_it_once(store):
    lost = []
    with hold_lease(store, owner=ELSEWHERE, on_lost=lost.append) as sleeper:
        store.create_once(
            layout.lease_key("main", 2),
            store.get(layout.lease_key("main", 1)).replace(b"other-machine", b"third-machine"),
        )
        sleeper.beat()
        sleeper.beat()

        assert sleeper.lost
    assert len(lost) == 1
    assert "third-machine" in lost[0]


def test_of_many_drivers_that_start_together_one_drives(store):
    start, end, epochs, refused = threading.Barrier(6), threading.Event(), [], []

    def drive():
        client = open_store(store.url)
        start.wait()
        try:
            with hold_lease(client, sleep=lambda _s: time.sleep(0.01)) as held:
                epochs.append(held)
                end.wait(10)
        except LeaseHeldError:
            refused.append(True)
            if len(refused) == 5:
                end.set()

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    while len(epochs) + len(refused) < 6:
        time.sleep(0.005)
        for held in epochs:
            held.beat()
    for thread in threads:
        thread.join()

    assert [held.epoch.number for held in epochs] == [1]
    assert len(refused) == 5


def test_an_unreadable_epoch_still_counts(store):
    store.put(layout.lease_key("main", 4), b"{")
    watch = Time()
    with hold_lease(store, clock=watch.clock, sleep=watch.sleep) as held:
        assert held.epoch.number == 5


def test_the_heartbeat_moves_by_itself(store, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.005)
    moved = threading.Event()
    with hold_lease(store) as held:
        write = held._write

        def count(*, ended):
            write(ended=ended)
            if held._beats >= 4:
                moved.set()

        held._write = count

        assert moved.wait(5)
    assert not held._thread.is_alive()


# -- asked to stop -----------------------------------------------------------------------


def test_a_driver_hears_once_that_it_is_asked_to_stop(store, monkeypatch):
    monkeypatch.setattr(lease, "LOOK_S", 0.01)
    heard, asked = [], threading.Event()

    def on_stop(line):
        heard.append(line)
        asked.set()

    with hold_lease(store, on_stop=on_stop):
        answer = lease.request_stop(store)
        assert asked.wait(5)
        time.sleep(0.05)

    assert answer.asked
    assert heard == ["sdbatch stop was called"]


def test_a_later_driver_does_not_heed_an_old_request(store, monkeypatch):
    monkeypatch.setattr(lease, "LOOK_S", 0.01)
    heard = []
    with hold_lease(store):
        lease.request_stop(store)
    with hold_lease(store, on_stop=heard.append):
        time.sleep(0.1)

    assert heard == []


def test_a_driver_beats_no_less_often_for_looking(store, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(lease, "LOOK_S", 0.02)
    with hold_lease(store) as held:
        time.sleep(0.5)
        beats = read_heartbeat(store, "main", held.epoch.number).beat

    assert beats >= 5


def test_a_driver_that_is_surely_gone_is_not_asked(store):
    leave_behind(store, HERE_BUT_GONE)

    assert not lease.request_stop(store).asked

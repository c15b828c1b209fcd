"""A cluster on paper: workers that take time, draw, die and fail, as a test wishes.

It plays the engine for `EngineState`: performs its commands in simulated time, reports
events, and checks after each step what must always hold.
"""

import random
from dataclasses import dataclass, field

from sdbatch.engine.events import (
    Assign,
    Drain,
    Finish,
    Kill,
    LeaseReturned,
    Pulse,
    ShardDone,
    ShardFailed,
    StartWorker,
    WorkerDied,
)
from sdbatch.engine.run_terms import RunTerms
from sdbatch.engine.shard_queue import RETRY_MAX_S
from sdbatch.engine.state import EngineState
from tests.engine.standin import make_shards, ready

LANES = 4


def make_terms(**changes):
    values = {
        "workers": 2,
        "waits_for": "GPUs",
        "wait_s": 1800.0,
        "retries": 3,
        "stop_after": None,
        "pulse_s": 1.0,
        "images": 0,
        "images_done": 0,
        "failed_done": 0,
        "shards": 0,
        "shards_done": 0,
    }
    return RunTerms(**(values | changes))


def make_state(num_shards=8, images=4, now=0.0, **changes):
    shards = make_shards(num_shards, images)
    terms = make_terms(images=num_shards * images, shards=num_shards, **changes)
    return EngineState(shards, terms, random.Random(7), now)


def done(worker, shard_id, won=True, success=4, failed=0):
    return ShardDone(worker, shard_id, won, success, failed, 0, 10, 18, 20, {"denoise": 1.0})


def failed(worker, shard_id, retryable=True, exit_code=3, unfit=False):
    return ShardFailed(
        worker, shard_id, "StorageError", "bucket is gone", exit_code, retryable, unfit
    )


def died(worker, init=False, preempted=False, exit_code=5):
    return WorkerDied(worker, init, preempted, "killed", exit_code)


def started(commands):
    return [one.worker for one in commands if isinstance(one, StartWorker)]


def assigned(commands):
    return [(one.worker, one.lease.shard.shard_id) for one in commands if isinstance(one, Assign)]


def finish_of(commands):
    return next((one for one in commands if isinstance(one, Finish)), None)


def bring_up(state, now=0.0):
    """Start and ready all workers: their names, and what they were told."""
    names = started(state.tick(now))
    return names, [one for name in names for one in state.handle(ready(name), now)]


@dataclass
class Hand:
    """A worker on paper."""

    speed: float
    ready_at: float
    up: bool = False
    draining: bool = False
    leases: list = field(default_factory=list)
    drawn: dict = field(default_factory=dict)
    idle_s: float = 0.0


class World:
    """Steps of `dt` seconds, until the state says `Finish`.

    `faults` counts how many deaths, failures, preemptions and failing starts chance may
    still bring; without any, the run must end with 0.
    """

    def __init__(self, state, shards, chance, speeds=(4.0,), faults=0, dt=0.25):
        self.state, self.chance, self.dt, self.faults = state, chance, dt, faults
        self.images = {shard.shard_id: shard.num_images for shard in shards}
        self.speeds, self.now, self.hands = speeds, 0.0, {}
        self.committed, self.commits, self.failed_at = set(), 0, {}
        self.finish, self.up_since = None, None

    def run(self, steps=40_000):
        for _ in range(steps):
            self.perform(self.state.tick(self.now))
            for name in list(self.hands):
                if self.finish is None and name in self.hands:
                    self.live(name)
            if self.finish is not None:
                return self.finish
            self.check()
            self.now += self.dt
        raise AssertionError("the run never finished")

    def tell(self, event):
        self.perform(self.state.handle(event, self.now))

    def perform(self, commands):
        for command in commands:
            match command:
                case StartWorker(worker):
                    assert worker not in self.hands
                    speed = self.speeds[len(self.hands) % len(self.speeds)]
                    self.hands[worker] = Hand(speed, self.now + self.chance.uniform(0, 2))
                case Assign(worker, lease):
                    hand = self.hands[worker]
                    assert hand.up
                    assert not hand.draining
                    hand.leases.append(lease)
                case Drain(worker):
                    self.hands[worker].draining = True
                case Kill(worker, _):
                    del self.hands[worker]
                case Finish():
                    self.finish = command

    def unlucky(self, odds):
        if self.faults and self.chance.random() < odds:
            self.faults -= 1
            return True
        return False

    def live(self, name):
        hand = self.hands[name]
        if not hand.up:
            self.come_up(name, hand)
        elif hand.draining:
            for lease in hand.leases:
                self.tell(LeaseReturned(name, lease.shard.shard_id))
            self.hands.pop(name, None)
            self.tell(died(name, preempted=True))
        elif self.unlucky(0.02):
            del self.hands[name]
            self.tell(died(name, preempted=self.chance.random() < 0.3))
        elif hand.leases:
            self.draw(name, hand)
        else:
            hand.idle_s += self.dt

    def come_up(self, name, hand):
        if self.now < hand.ready_at:
            return
        if self.unlucky(0.3):
            del self.hands[name]
            self.tell(died(name, init=True))
            return
        hand.up = True
        self.tell(ready(name))

    def draw(self, name, hand):
        room = hand.speed * self.dt
        for lease in list(hand.leases):
            shard_id, images = lease.shard.shard_id, lease.shard.num_images
            step = min(room, images - hand.drawn.get(shard_id, 0.0))
            hand.drawn[shard_id] = hand.drawn.get(shard_id, 0.0) + step
            room -= step
            if hand.drawn[shard_id] < images - 1e-9:
                break
            hand.leases.remove(lease)
            del hand.drawn[shard_id]
            if self.unlucky(0.05):
                self.failed_at[shard_id] = self.now
                self.tell(failed(name, shard_id, unfit=self.chance.random() < 0.3))
                return
            won = shard_id not in self.committed
            self.committed.add(shard_id)
            self.commits += won
            if self.unlucky(0.05):  # committed, and the news is lost with the worker
                del self.hands[name]
                self.tell(died(name))
                return
            self.tell(done(name, shard_id, won, success=images))
        if self.finish is None and name in self.hands and self.now % 1.0 == 0:
            finished = {one.shard.shard_id: 0 for one in hand.leases}
            finished |= {shard_id: int(count) for shard_id, count in hand.drawn.items()}
            left = sum(self.images[shard_id] - count for shard_id, count in finished.items())
            self.tell(Pulse(name, finished, min(LANES, left), "drawing"))

    def check(self):
        held = [one.shard.shard_id for hand in self.hands.values() for one in hand.leases]
        assert len(held) == len(set(held)), "a shard is leased twice"
        for hand in self.hands.values():
            assert len(hand.leases) <= 2
            careful = [one for one in hand.leases if one.care]
            assert not careful or len(hand.leases) == 1, "a shard under suspicion has company"
        free = self.images.keys() - self.committed - set(held)
        resting = {
            one for one, since in self.failed_at.items() if self.now - since <= RETRY_MAX_S + 1
        }
        idle = [name for name, hand in self.hands.items() if hand.up and not hand.leases]
        if free - resting and not any(self.hands[name].draining for name in idle):
            assert not idle, "a worker idles while a shard waits"

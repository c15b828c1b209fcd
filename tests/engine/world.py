"""A cluster on paper: workers that take time, draw, die and fail, as a test wishes.

It plays the engine for `EngineState`: performs its commands in simulated time, reports
events, and checks after each step what must always hold. Stores that fail, disks that fill
up, nodes that come and go and slow workers are knobs of `World`.
"""

import random
from dataclasses import dataclass, field

from sdbatch.engine.events import (
    Abandon,
    Assign,
    Drain,
    Finish,
    Kill,
    LeaseReturned,
    Pulse,
    ShardDone,
    ShardFailed,
    Share,
    StartWorker,
    StopRequested,
    WorkerDied,
)
from sdbatch.engine.run_terms import Limits, RoomChanged, RunTerms, WorkerLeaving
from sdbatch.engine.shard_queue import RETRY_MAX_S
from sdbatch.engine.state import EngineState
from tests.engine.standin import make_shards, ready

LANES = 4


LIMITS = set(Limits.__dataclass_fields__)


def make_terms(**changes):
    """Terms of a run; what belongs to `Limits` may be named here too."""
    limits = Limits(**{name: changes.pop(name) for name in LIMITS & changes.keys()})
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
        "limits": limits,
    }
    return RunTerms(**(values | changes))


def make_state(num_shards=8, images=4, now=0.0, **changes):
    shards = make_shards(num_shards, images)
    terms = make_terms(images=num_shards * images, shards=num_shards, **changes)
    return EngineState(shards, terms, random.Random(7), now)


def done(worker, shard_id, won=True, success=4, failed=0):
    return ShardDone(worker, shard_id, won, success, failed, 0, 10, 18, 20, {"denoise": 1.0})


def failed(worker, shard_id, retryable=True, exit_code=1, unfit=False):
    """A fault of the shard's own."""
    return ShardFailed(worker, shard_id, "OSError", "cannot be read", exit_code, retryable, unfit)


def store_failed(worker, shard_id):
    return ShardFailed(worker, shard_id, "StorageError", "bucket is gone", 3, retryable=True)


def disk_full(worker, shard_id):
    message = "node n1, /tmp: no space left on device"
    return ShardFailed(worker, shard_id, "LocalDiskError", message, 3, True, worker_unfit=True)


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
    node: int = 0
    up: bool = False
    draining: bool = False
    leases: list = field(default_factory=list)
    drawn: dict = field(default_factory=dict)
    saved: int = 0
    idle_s: float = 0.0


class World:
    """Steps of `dt` seconds, until the state says `Finish`.

    Args:
        speeds: Pictures a second, of workers in the order of their starts.
        faults: How many deaths, failures, preemptions and failing starts chance may bring;
            without any fault, outage, full disk or stop the run must end with 0.
        outages: (from, until): whoever stores anything then learns that the store fails.
        full: Share of commits that find the disk full.
        nodes: Nodes on which workers land in turn; some may be told to leave by `faults`.
        rooms: (when, workers): the room that the cluster has from then on.
        stop_at: When somebody asks for an end.
    """

    def __init__(
        self, state, shards, chance, speeds=(4.0,), faults=0, dt=0.25, outages=(), full=0.0,
        nodes=1, rooms=(), stop_at=None,
    ):  # fmt: skip
        self.state, self.chance, self.dt, self.faults = state, chance, dt, faults
        self.images = {shard.shard_id: shard.num_images for shard in shards}
        self.speeds, self.now, self.hands = speeds, 0.0, {}
        self.outages, self.full, self.nodes = outages, full, nodes
        self.rooms, self.stop_at = sorted(rooms), stop_at
        self.committed, self.commits, self.failed_at = set(), 0, {}
        self.finish, self.stopped, self.started = None, False, 0
        self.shared, self.joined, self.released = set(), 0, 0

    def run(self, steps=60_000):
        for _ in range(steps):
            self.outside()
            self.perform(self.state.tick(self.now))
            for name in list(self.hands):
                if self.finish is None and name in self.hands:
                    self.live(name)
            if self.finish is not None:
                return self.finish
            self.check()
            self.now += self.dt
        raise AssertionError("the run never finished")

    def outside(self):
        """What neither a worker nor the state brings about."""
        while self.rooms and self.rooms[0][0] <= self.now:
            self.tell(RoomChanged(self.rooms.pop(0)[1]))
        if self.stop_at is not None and self.now >= self.stop_at and not self.stopped:
            self.stopped = True
            self.tell(StopRequested("SIGTERM"))
        if self.nodes > 1 and self.unlucky(0.002):
            node = self.chance.randrange(self.nodes)
            for name in [one for one, hand in self.hands.items() if hand.node == node]:
                self.tell(WorkerLeaving(name))

    def tell(self, event):
        self.perform(self.state.handle(event, self.now))

    def perform(self, commands):
        for command in commands:
            match command:
                case StartWorker(worker):
                    assert worker not in self.hands
                    assert not self.stopped, "a worker is started during a drain"
                    speed = self.speeds[self.started % len(self.speeds)]
                    ready_at = self.now + self.chance.uniform(0, 2)
                    self.hands[worker] = Hand(speed, ready_at, self.started % self.nodes)
                    self.started += 1
                case Assign(worker, lease):
                    assert not self.stopped, "a lease is given during a drain"
                    hand = self.hands[worker]
                    assert hand.up
                    assert not hand.draining
                    hand.leases.append(lease)
                    self.joined += lease.reverse
                case Share(worker, shard_id):
                    assert shard_id in {one.shard.shard_id for one in self.hands[worker].leases}
                    self.shared.add(shard_id)
                case Abandon(worker, shard_id):
                    self.drop(self.hands[worker], shard_id)
                case Drain(worker):
                    self.released += not self.hands[worker].leases and not self.stopped
                    self.hands[worker].draining = True
                case Kill(worker, _):
                    del self.hands[worker]
                case Finish():
                    self.finish = command

    def drop(self, hand, shard_id):
        hand.leases = [one for one in hand.leases if one.shard.shard_id != shard_id]
        hand.drawn.pop(shard_id, None)

    def unlucky(self, odds):
        if self.faults and self.chance.random() < odds:
            self.faults -= 1
            return True
        return False

    @property
    def store_fails(self):
        return any(since <= self.now < until for since, until in self.outages)

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

    def stored_by_all(self, shard_id):
        """Pictures of a shard that two workers have drawn, for each takes those of the other."""
        return sum(hand.drawn.get(shard_id, 0.0) for hand in self.hands.values())

    def draw(self, name, hand):
        room = hand.speed * self.dt
        for lease in list(hand.leases):
            shard_id, images = lease.shard.shard_id, lease.shard.num_images
            here = hand.drawn.get(shard_id, 0.0)
            there = self.stored_by_all(shard_id) - here if shard_id in self.shared else 0.0
            step = min(room, max(images - here - there, 0.0))
            hand.drawn[shard_id] = here + step
            room -= step
            if here + step + there < images - 1e-9:
                break
            if not self.end(name, hand, lease):
                return
        self.pulse(name, hand)

    def end(self, name, hand, lease):
        """A shard is complete: its commit; False when the worker is not to go on this step."""
        shard_id = lease.shard.shard_id
        self.drop(hand, shard_id)
        if self.full and self.chance.random() < self.full:
            others = [one.shard.shard_id for one in hand.leases]
            hand.leases.clear()
            for other in others:
                self.tell(LeaseReturned(name, other))
            self.tell(disk_full(name, shard_id))
            return False
        if self.store_fails:
            self.tell(store_failed(name, shard_id))
            return False
        if self.unlucky(0.05):
            self.failed_at[shard_id] = self.now
            self.tell(failed(name, shard_id, unfit=self.chance.random() < 0.3))
            return False
        won = shard_id not in self.committed
        self.committed.add(shard_id)
        self.commits += won
        if self.unlucky(0.05):  # committed, and the news is lost with the worker
            del self.hands[name]
            self.tell(died(name))
            return False
        self.tell(done(name, shard_id, won, success=lease.shard.num_images))
        return self.finish is None and name in self.hands

    def pulse(self, name, hand):
        if self.finish is not None or name not in self.hands or self.now % 1.0:
            return
        if hand.leases and not self.store_fails and hand.leases[0].care:
            hand.saved += 1
        finished = {one.shard.shard_id: 0 for one in hand.leases}
        finished |= {shard_id: int(count) for shard_id, count in hand.drawn.items()}
        left = sum(self.images[shard_id] - count for shard_id, count in finished.items())
        self.tell(Pulse(name, finished, min(LANES, left), "drawing", hand.saved))

    def check(self):
        leases = [one for hand in self.hands.values() for one in hand.leases]
        held = [one.shard.shard_id for one in leases]
        own = [one.shard.shard_id for one in leases if not one.reverse]
        assert len(own) == len(set(own)), "a shard is leased twice"
        assert all(held.count(one) <= 2 for one in held), "a shard has two helpers"
        for hand in self.hands.values():
            assert len(hand.leases) <= 2
            careful = [one for one in hand.leases if one.care]
            assert not careful or len(hand.leases) == 1, "a shard under suspicion has company"
        free = self.images.keys() - self.committed - set(held)
        resting = {
            one for one, since in self.failed_at.items() if self.now - since <= RETRY_MAX_S + 1
        }
        idle = [name for name, hand in self.hands.items() if hand.up and not hand.leases]
        paused = self.state._outage.on or (self.outages and self.now < self.outages[-1][1] + 61)
        if free - resting and not any(self.hands[name].draining for name in idle) and not paused:
            assert not idle, "a worker idles while a shard waits"

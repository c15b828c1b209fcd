"""Two drivers on one store that take turns at storage calls.

`Race` draws turns and faults by lot, `Switches` tries every way in which the one is stopped
once, the other goes on for a while, and both end one after the other.
"""

from __future__ import annotations

import itertools
import queue
import random
import threading

from sdbatch.errors import SdbatchError
from tests.storage.protocol_model import Driver, Watch, file_of, state_after
from tests.storage.stores import FAULTS, DictStore, FaultStore, PowerCut

ROLES = [
    (("render",), ("render",)),
    (("render", "retry"), ("render",)),
    (("retry",), ("render", "gc", "render", "gc")),
    (("retry",), ("retry",)),
    (("repair",), ("retry",)),
    (("repair",), ("gc", "repair", "gc")),
]
"""What the two do; from the third on they begin with a rendered dataset."""


def by_lot(seed, head_start=0):
    """The first one goes on alone for `head_start` calls, then whom the die names."""
    rng = random.Random(seed)
    # Even turns find races of a few calls, long ones what a sleeper does when it wakes.
    stay = rng.choice([0.5, 0.8, 0.95])
    turns = itertools.count()

    def choose(alive, last):
        if last in alive and (next(turns) < head_start or rng.random() < stay):
            return last
        return rng.choice(alive)

    return choose


def by_plan(*spans):
    """(name, calls) one after the other; those who are left then end by name."""
    left = list(itertools.chain.from_iterable([name] * calls for name, calls in spans))

    def choose(alive, _last):
        while left:
            name = left.pop(0)
            if name in alive:
                return name
        return alive[0]

    return choose


class Turns:
    """Lets one of several threads go on at every storage call: whom `choose` names."""

    def __init__(self, choose):
        self.choose = choose
        self.batons = {}
        self.reports = queue.SimpleQueue()

    def wait(self):
        self.reports.put("call")
        self.batons[threading.current_thread().name].acquire()

    def run(self, tasks, check):
        """Run tasks by name to their ends; returns what `check` or a task raised first."""
        threads = []
        for name, task in tasks.items():
            self.batons[name] = threading.Semaphore(0)
            threads.append(threading.Thread(target=self._body, args=(name, task), name=name))
        for thread in threads:
            thread.start()
        alive, broken = sorted(tasks), None
        name = alive[0]
        while alive:
            name = self.choose(alive, name)
            self.batons[name].release()
            report = self.reports.get()
            if report != "call":
                alive.remove(name)
                broken = broken or report
            if broken is None:
                broken = failure_of(check)
        for thread in threads:
            thread.join()
        return broken

    def _body(self, name, task):
        self.batons[name].acquire()
        broken = RuntimeError(f"driver {name} ended in no known way")
        try:
            task()
            broken = None
        except (PowerCut, SdbatchError):
            broken = None
        finally:
            self.reports.put(broken)


class Race:
    """Two drivers of a kind, with two random faults, begun from nothing or a rendered dataset."""

    def __init__(self, tmp_path):
        self.tmp_path = tmp_path
        self.rendered = state_after(tmp_path, "render")
        sleeper = DictStore()  # what one that slept through the end of the run has left since
        sleeper.objects = self.rendered
        late = Driver(sleeper, tmp_path, "late")
        for row, text in ((0, "picture 0"), (1, "failed")):
            late.save_part(0, late.attempt(), row, text, 0)
        late.upload(late.pack(0, late.attempt(), {0: "picture 0"}))

    def run(self, seed, kind=Driver, roles=(0, 1, 2, 3, 4, 5)):
        """What went wrong; None when nothing did."""
        rng = random.Random(seed)
        role = roles[seed % len(roles)]
        ways = {"with_parts": rng.random() < 0.25, "with_copies": rng.random() < 0.5}
        inner = DictStore()
        inner.objects |= self.rendered if role >= 2 else {}
        watch = Watch(inner.objects)
        if "repair" in itertools.chain(*ROLES[role]):
            watch.spoil(file_of(inner.objects, rng.randrange(3)), rng.choice([None, b"rotten"]))
        calls = 80 if ways["with_parts"] else 50
        head_start = rng.choice([0, rng.randint(0, calls)])  # the second may come in the middle
        turns = Turns(by_lot(seed, head_start))
        store = FaultStore(inner, turns.wait)
        store.faults = {rng.randint(1, 2 * calls): rng.choice(FAULTS) for _ in range(2)}
        one, two = (
            kind(store, self.tmp_path, name, script, reverse=rng.random() < 0.3, **ways)
            for name, script in zip("ab", ROLES[role], strict=True)
        )
        broken = turns.run({"a": one.run, "b": two.run}, watch.check)
        return broken or failure_of(lambda: watch.check_finish(self.tmp_path))


class WriteTurns(FaultStore):
    """Turns end at writes alone: between reads, others see the same."""

    def _step(self, call, *args):
        return super()._step(call, *args) if is_write(self.inner, call) else call(*args)


class Switches:
    """One driver is stopped at each of its calls, the other one at each of its writes."""

    def __init__(self, tmp_path, stopped, other, begin_with):
        self.tmp_path, self.stopped, self.other = tmp_path, stopped, other
        self.begin_with = begin_with

    def first_failure(self):
        """(calls of the one, writes of the other) and what went wrong; None when nothing does."""
        for calls in itertools.count(1):
            for writes in itertools.count(1):
                broken, met_calls, met_writes = self.run(calls, writes)
                if broken:
                    return calls, writes, broken
                if met_writes < writes:
                    break
            if met_calls < calls:
                return None
        return None

    def run(self, calls, writes):
        inner = DictStore()
        inner.objects |= self.begin_with
        watch = Watch(inner.objects)
        turns = Turns(by_plan(("a", calls), ("b", writes), ("a", 1000)))
        stores = {"a": FaultStore(inner, turns.wait), "b": WriteTurns(inner, turns.wait)}
        ways = {"with_parts": False, "with_copies": False}
        one = Driver(stores["a"], self.tmp_path, "a", self.stopped, **ways)
        two = Driver(stores["b"], self.tmp_path, "b", self.other, **ways)
        broken = turns.run({"a": one.run, "b": two.run}, watch.check)
        broken = broken or failure_of(lambda: watch.check_finish(self.tmp_path))
        return broken, stores["a"].calls, stores["b"].calls


def is_write(store, call):
    """Whether a call changes what is stored."""
    return call in (store.put, store.put_file, store.delete, store._create_new)


def failure_of(check):
    """What a check raised; None when it holds."""
    try:
        check()
    except (AssertionError, SdbatchError) as error:
        return error
    return None

"""Any history of kills, faults, commands and damage ends in the same dataset."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sdbatch.storage import layout
from tests.storage.protocol_model import Driver, Watch, file_of, run_to_its_end
from tests.storage.stores import FAULTS, DictStore, FaultStore
from tests.storage.turns import Turns, by_lot, failure_of

COMMANDS = st.sampled_from(["render", "retry", "repair", "gc"])
CALLS = st.integers(1, 120)


class Histories(RuleBasedStateMachine):
    """A folder of three shards and everything that may happen to it."""

    def __init__(self):
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.scratch = Path(self.place.name)
        self.inner, self.spoiled = DictStore(), False
        self.watch = Watch(self.inner.objects)
        self.attempts = (f"{number:08x}" for number in itertools.count())  # none ever repeats
        self.names = (f"driver-{number}" for number in itertools.count())

    def teardown(self):
        self.watch.check_finish(self.scratch)
        self.place.cleanup()

    def driver(self, store, *script):
        driver = Driver(store, self.scratch, next(self.names), script)
        driver.attempts = self.attempts
        return driver

    @rule(command=COMMANDS)
    def command(self, command):
        """An undisturbed command; it may be refused."""
        run_to_its_end(self.driver(self.inner, command))

    @rule(command=COMMANDS, call=CALLS, fault=st.sampled_from(FAULTS))
    def fault(self, command, call, fault):
        """A command during which a call fails, or the process dies at it."""
        store = FaultStore(self.inner)
        store.faults = {call: fault}
        run_to_its_end(self.driver(store, command))

    @rule(first=COMMANDS, second=COMMANDS, seed=st.integers(0, 999), call=CALLS)
    def two_at_once(self, first, second, seed, call):
        """Two commands that take turns, one of which is killed."""
        turns = Turns(by_lot(seed, seed % 50))
        store = FaultStore(self.inner, turns.wait)
        store.faults = {call: "crash_before"}
        one, two = self.driver(store, first), self.driver(store, second)
        broken = turns.run({"a": one.run, "b": two.run}, self.watch.check)
        assert broken is None

    @precondition(lambda self: self.watch.folder.finished() and not self.spoiled)
    @rule(shard_id=st.integers(0, 2), kind=st.sampled_from(["data", "metadata", "record"]))
    def rot(self, shard_id, kind):
        """A standing object goes bad after the fact."""
        key = self.watch.folder.standing(certain=True)[shard_id]
        if kind != "record":
            key = file_of(self.inner.objects, shard_id, kind)
        self.watch.spoil(key, b"{rotten" if kind == "record" else None)
        self.spoiled = True

    @precondition(lambda self: not self.watch.folder.finished())
    @rule(shard_id=st.integers(0, 2))
    def lose_by_hand(self, shard_id):
        """A record rotted before its run, or its rework, was finished: somebody deletes it."""
        rework = self.watch.folder.open_rework()
        revision = rework.shards.get(shard_id) if rework else 0
        key = layout.commit_key("main", shard_id, revision or 0)
        if revision is not None and self.inner.objects.pop(key, None):
            del self.watch.seen[key]
            for info in list(self.inner.list(layout.compactions_prefix("main"))):
                self.inner.delete(info.key)

    @precondition(lambda self: self.spoiled)
    @rule()
    def mend(self):
        """A repair that nobody disturbs makes all of it good."""
        assert failure_of(self.driver(self.inner, "repair").run) is None
        standing = self.watch.folder.standing(certain=True)
        assert self.watch.rotten.isdisjoint(standing.values())
        assert all(self.driver(self.inner).is_sound(shard_id) for shard_id in standing)
        self.spoiled = False

    @invariant()
    def holds(self):
        """What must hold at every moment."""
        self.watch.check()


Histories.TestCase.settings = settings(max_examples=100, stateful_step_count=10, deadline=None)
TestHistories = Histories.TestCase

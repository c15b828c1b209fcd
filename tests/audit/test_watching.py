"""Watching: the driver's word between whole looks, the records at the end."""

from datetime import UTC, datetime

import pytest

from sdbatch import api
from sdbatch.audit.status import read_status
from sdbatch.audit.watching import WHOLE_EVERY_S, Watch
from sdbatch.errors import InputError
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import hold_lease
from tests.audit.tiny_dataset import NUM_IMAGES, memory_store, write_dataset

SAID = {
    "images": NUM_IMAGES, "done": 6, "finished": 2, "failed": 1, "shards": 3, "shards_done": 2,
    "workers_up": 2, "workers_wanted": 4, "in_flight": 3, "images_per_s": 0.5, "paused": "",
}  # fmt: skip


class Looks:
    """Whole looks, counted; a clock that a test moves."""

    def __init__(self):
        self.count, self.now, self.cost = 0, 0.0, 0.0

    def clock(self):
        return self.now

    def look(self, store, run):
        self.count += 1
        self.now += self.cost
        return read_status(store, run)


@pytest.fixture
def looks():
    return Looks()


def watch(store, looks):
    return Watch(store, "main", looks.clock, looks.look)


def test_between_whole_looks_the_drivers_word_is_shown(looks):
    store = memory_store()
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        RunFolder(store, "main").write_progress({**SAID, "done": 4, "failed": 0, "shards_done": 1})
        watched = watch(store, looks)
        first = watched.look()
        RunFolder(store, "main").write_progress(SAID)
        looks.now += 2
        second = watched.look()

        assert (first.images_done, second.images_done) == (4, 6)
        assert (second.success, second.failed, second.shards_done) == (5, 1, 2)
        assert (second.workers_up, second.images_per_s) == (2, 0.5)
        left = (datetime.fromisoformat(second.eta) - datetime.now(UTC)).total_seconds()
        assert left == pytest.approx((NUM_IMAGES - 8) / 0.5, abs=3)
        assert looks.count == 1
        looks.now += WHOLE_EVERY_S
        assert watched.look().images_done == 4  # the records are the truth
        assert looks.count == 2
        assert not watched.ended


@pytest.mark.parametrize(
    "change", [{"done": NUM_IMAGES}, {"done": 0}, {"done": None}, {"ended": {}}]
)
def test_a_word_that_cannot_be_right_or_is_the_last_calls_for_a_whole_look(looks, change):
    store = memory_store()
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        watched = watch(store, looks)
        watched.look()
        RunFolder(store, "main").write_progress({**SAID, **change})
        looks.now += 2

        assert watched.look().images_done == 4
        assert looks.count == 2


def test_looks_that_take_long_are_taken_seldom(looks):
    store, looks.cost = memory_store(), 10.0
    write_dataset(store, shards=(0,), success=False)
    with hold_lease(store):
        watched = watch(store, looks)
        watched.look()
        for _ in range(19):
            looks.now += 2
            watched.look()
        assert looks.count == 1
        looks.now += 4
        watched.look()
        assert looks.count == 2


def test_a_run_that_nobody_drives_has_ended(looks):
    store = memory_store()
    write_dataset(store)
    watched = watch(store, looks)
    assert watched.look().state == "done_with_failures"
    assert watched.ended


def test_without_a_name_the_run_driven_last_is_watched(manifest, tmp_path):
    api.render(manifest(4), tmp_path / "out", model="fake", engine="inline", size="64x64")

    assert api.open_dataset(tmp_path / "out").watch().look().run == "main"
    with pytest.raises(InputError):
        api.open_dataset(tmp_path / "out").watch(run="other")
    with pytest.raises(InputError, match="holds no run"):
        api.open_dataset(tmp_path / "empty").watch().look()

"""Real runs to real Parquet, whose process ends at every write to storage, one after the other.

A crash at a read leaves what one at the next write leaves, so writes are enough. From the
fatal call on every call fails, on all threads, as it does for a process that is gone.
"""

from __future__ import annotations

import shutil
import threading
from functools import partial

import pytest

from sdbatch import api
from sdbatch.errors import SdbatchError, StorageError
from sdbatch.storage.local_store import LocalStore
from tests.engine.runs import INLINE, hashes

READS = ("get", "get_file", "head", "open", "_walk", "sweep")
WRITES = ("put", "put_file", "delete", "_create_new")
SMALL = {"model": "fake", "shard_size": 3, **INLINE}
ADVICE = ("progress.json", ".hb", "tokens/", "logs/")
"""What the run's own clock writes: the dataset is the same at any of these."""


class ProcessGoneError(StorageError):
    """Nothing this process asks for is done any more."""

    retryable = False


class Plug:
    """Counts the writes of every local store, and is pulled before one of them."""

    def __init__(self, monkeypatch):
        self.writes, self.last, self.pulled = 0, None, False
        self.lock = threading.Lock()
        for name in READS + WRITES:
            monkeypatch.setattr(LocalStore, name, self.guard(name, getattr(LocalStore, name)))

    def guard(self, name, call):
        def guarded(store, key="", *args, **options):
            with self.lock:
                if name in WRITES and not any(word in key for word in ADVICE):
                    self.writes += 1
                    self.pulled = self.pulled or self.writes == self.last
                if self.pulled:
                    raise ProcessGoneError(f"{key}: the process is gone")
            return call(store, key, *args, **options)

        return guarded

    def pull_at(self, write):
        """Count anew; None lets everything through."""
        self.writes, self.last, self.pulled = 0, write, False


@pytest.fixture
def plug(monkeypatch):
    return Plug(monkeypatch)


def ended(plug, write, command):
    """Run a command that dies before a write; whether it ended before that."""
    plug.pull_at(write)
    try:
        command()
        died = plug.pulled
    except SdbatchError:
        died = True
    assert died == plug.pulled
    plug.pull_at(None)
    return not died


def check_whole(out, expected):
    assert hashes(out) == expected
    report = api.open_dataset(out).verify(3)
    assert (report.problems, report.unfinished, report.orphans) == ([], "", ())
    assert not list((out / "__sdbatch" / "main").glob("parts/**/*.parquet"))


def test_a_run_that_dies_before_any_write_is_resumed_to_the_same_pixels(manifest, tmp_path, plug):
    path = manifest(6)
    api.render(path, tmp_path / "whole", **SMALL)
    expected = hashes(tmp_path / "whole")
    for write in range(1, 200):
        out = tmp_path / f"out{write}"
        done = ended(plug, write, lambda out=out: api.render(path, out, **SMALL))
        api.render(path, out, **SMALL)
        check_whole(out, expected)
        shutil.rmtree(out)
        if done:
            break
    assert done
    assert write > 12


def damage(out):
    (min((out / "data").iterdir())).unlink()


def nothing(out):
    """A dataset with failures needs no damage to be worked on."""


@pytest.mark.parametrize(
    ("model", "before", "command"),
    [
        ("fake", damage, api.repair),
        ("fake:fail=0.4", nothing, partial(api.retry, reseed=1)),
    ],
    ids=["repair", "retry"],
)
def test_a_rework_that_dies_before_any_write_is_resumed_to_the_same_pixels(
    model, before, command, manifest, tmp_path, plug
):
    rendered, whole = tmp_path / "rendered", tmp_path / "whole"
    api.render(manifest(6), rendered, **{**SMALL, "model": model})
    before(rendered)
    shutil.copytree(rendered, whole)
    command(whole, engine="inline")
    expected = hashes(whole)
    for write in range(1, 200):
        out = tmp_path / f"out{write}"
        shutil.copytree(rendered, out)
        done = ended(plug, write, lambda out=out: command(out, engine="inline"))
        command(out, engine="inline")
        api.open_dataset(out).collect_orphans()
        check_whole(out, expected)
        shutil.rmtree(out)
        if done:
            break
    assert done
    assert len(hashes(rendered)) <= len(expected)
    assert write > 8

"""What of a run becomes lines, in a real inline run and event by event."""

import json

import pytest

from sdbatch import api
from sdbatch.engine.events import (
    Abandon,
    Assign,
    Drain,
    Kill,
    Lease,
    LeaseReturned,
    Pulse,
    ShardDone,
    ShardFailed,
    Share,
    StartWorker,
    StopRequested,
    WorkerDied,
)
from sdbatch.engine.log_lines import RunLog, line_of
from sdbatch.errors import NoWorkersError, StorageError
from sdbatch.records import Shard
from tests.engine.runs import INLINE
from tests.storage.stores import DictStore

SHARD = Shard(7, 0, 4, "", 0, 4, 4, 1.0)


@pytest.mark.parametrize(
    ("said", "event", "level", "facts"),
    [
        (Assign("w1", Lease(SHARD, 2)), "lease", "debug", {"shard": 7, "attempt": 2}),
        (Assign("w1", Lease(SHARD, 1, care=2, revision=3)), "lease", "debug", {"revision": 3}),
        (LeaseReturned("w1", 7), "lease_returned", "debug", {"shard": 7, "worker": "w1"}),
        (Share("w1", 7), "share", "debug", {"shard": 7}),
        (Abandon("w1", 7), "abandon", "debug", {"shard": 7}),
        (Drain("w1"), "drain", "info", {"worker": "w1"}),
        (Kill("w1", "silent"), "kill", "warning", {"worker": "w1"}),
        (Kill("w1", ""), "kill", "info", {"worker": "w1"}),
        (StopRequested("SIGTERM"), "stop_requested", "warning", {}),
        (WorkerDied("w1", False, False, "gone"), "worker_died", "warning", {"exit_code": 5}),
        (WorkerDied("w1", True, False, "no"), "worker_failed_to_start", "warning", {}),
        (WorkerDied("w1", False, True, "spot"), "worker_died", "info", {"preempted": True}),
        (
            ShardFailed("w1", 7, "OSError", "disk", 1, True),
            *("shard_failed", "warning", {"shard": 7, "error_type": "OSError", "retryable": True}),
        ),
        (
            ShardDone("w1", 7, True, 3, 1, 0, 0, 0, 0, {}),
            *("shard_committed", "info", {"shard": 7, "success": 3, "failed": 1, "won": None}),
        ),
        (
            ShardDone("w1", 7, False, 4, 0, 0, 0, 0, 0, {}),
            *("shard_committed", "info", {"won": False}),
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | dict) else "",
)
def test_a_moment_becomes_a_line_with_its_facts(said, event, level, facts):
    line = line_of(said)

    assert (line.event, line.level) == (event, level)
    assert facts.items() <= line.facts.items()
    assert "\n" not in line.message


@pytest.mark.parametrize("said", [Pulse("w1", {}, 0, "drawing"), StartWorker("w1")])
def test_what_comes_every_second_becomes_none(said):
    assert line_of(said) is None


def lines_of(out, **wanted):
    return [line.body for line in api.open_dataset(out).logs(level="debug", **wanted)]


def test_a_run_is_told_from_its_settings_to_its_exit_code(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(40), out, **INLINE, model="fake:fail=0.2", shard_size=10)
    lines = lines_of(out, worker="driver")
    events = [line["event"] for line in lines]

    assert events[0] == "run_started"
    assert events[-1] == "run_ended"
    assert {"worker_ready", "settled", "lease", "shard_committed"} <= set(events)
    assert events.count("shard_committed") == events.count("lease") == 4
    assert (lines[0]["model"], lines[0]["shards"], lines[0]["retries"]) == ("fake:fail=0.2", 4, 3)
    settled = lines[events.index("settled")]
    assert (settled["dtype"], settled["scheduler"]) == ("float32", "DDIMScheduler")
    assert lines[-1]["exit_code"] == 4
    assert lines[-1]["failed"] > 0
    committed = [line for line in lines if line["event"] == "shard_committed"]
    assert {(line["shard"], line["attempt"]) for line in committed} == {(n, 1) for n in range(4)}


def test_secrets_of_the_storage_options_are_in_no_line(manifest, tmp_path):
    out = tmp_path / "out"
    api.render(manifest(4), out, **INLINE, model="fake", settings={"storage.profile": "geheim1"})

    assert "geheim1" not in json.dumps(lines_of(out))


def test_a_run_that_fails_says_with_which_error():
    store = DictStore()
    with pytest.raises(NoWorkersError):
        _run_without_workers(store)
    last = json.loads(b"".join(store.objects.values()).splitlines()[-1])

    assert (last["event"], last["exit_code"], last["level"]) == ("run_ended", 5, "error")
    assert last["message"] == "none came up within 3 s"


def _run_without_workers(store):
    with RunLog(store, "main") as log:
        log.listening(_engine_input())
        raise NoWorkersError("none came up within 3 s")


def test_a_run_without_an_engine_call_writes_nothing():
    store = DictStore()
    with RunLog(store, "main"):
        pass
    with pytest.raises(StorageError), RunLog(store, "main"):
        raise StorageError("before anything began")

    assert store.objects == {}


def test_hooks_pass_everything_on_and_notes_of_events_are_not_written_twice():
    store, heard = DictStore(), []
    with RunLog(store, "main") as log:
        run = log.listening(_engine_input(heard))
        died = WorkerDied("w1", False, False, "gone")
        run.on_event(died)
        run.on_command(Drain("w1"))
        run.on_note("w1 died: gone; its shards are leased again")
        run.on_note("waiting for GPUs")
    events = [json.loads(line)["event"] for line in next(iter(store.objects.values())).splitlines()]

    assert heard[:2] == [died, Drain("w1")]
    assert len(heard) == 4
    assert events == ["run_started", "worker_died", "drain", "note"]


def _engine_input(heard=None):
    from sdbatch.engine.driver_loop import EngineInput, Stop
    from sdbatch.model_specs import RenderSpec

    tell = (heard if heard is not None else []).append
    return EngineInput(
        output="dict://", storage={}, render=RenderSpec("fake", "fake", "r", "auto", {}, 1),
        sizes=((64, 64),), token="0123456789ab", shards=[SHARD], images_total=4, images_done=0,
        failed_done=0, shards_total=1, shards_done=0, workers=1, wait_s=3.0, retries=3,
        stop_after=None, pulse_s=1.0, settle=tell, on_progress=tell, on_note=tell, on_event=tell,
        stop=Stop(), on_command=tell,
    )  # fmt: skip

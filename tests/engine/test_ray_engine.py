"""Actors of one shared local cluster: they die, refuse, leave and stop; the run goes on or ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import ray
import ray._private.state

from sdbatch.engine.events import Pulse, ShardDone, WorkerDied
from sdbatch.engine.ray_cluster import connection
from sdbatch.engine.ray_engine import run_on_ray
from sdbatch.errors import StoreNotSharedError
from tests.engine.standin import StandIn, engine_input, make_shards

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with connection(None, num_cpus=4):
            yield


class Watched:
    """An input whose first event of a kind triggers an act."""

    def __init__(self, out, shards, kind, act, **changes):
        self.kind, self.act, self.fired = kind, act, False
        self.events = []
        self.run, self.seen = engine_input(out, shards, on_event=self.on_event, **changes)

    def on_event(self, event):
        self.events.append(event)
        if isinstance(event, self.kind) and not self.fired:
            self.fired = True
            self.act(event)

    def committed(self):
        return sorted(one.shard_id for one in self.events if isinstance(one, ShardDone))


def pid_of(out, worker):
    return int((out / f"{worker}.pid").read_text())


def facts_of(out, shard_id):
    return json.loads((out / f"{shard_id}.commit").read_text())


def gone(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(5)
    return not psutil.pid_exists(pid)


def test_a_killed_actor_is_replaced_and_every_shard_committed_once(tmp_path, capfd):
    watched = Watched(
        tmp_path,
        make_shards(8, 10),
        ShardDone,
        lambda event: os.kill(pid_of(tmp_path, event.worker), signal.SIGKILL),
        storage={"picture_s": 0.02},
    )

    result = run_on_ray(watched.run, None, 1, StandIn)

    killed = next(one for one in watched.events if isinstance(one, WorkerDied))
    assert (result.exit_code, result.workers_lost, result.shards) == (0, 1, 8)
    assert watched.committed() == list(range(8))
    assert "was killed or crashed (pid" in killed.message
    assert {facts_of(tmp_path, one)["care"] for one in range(8)} == {0, 1}
    assert {facts_of(tmp_path, one)["worker"] for one in range(8)} <= {"w0", "w1", "w2"}
    assert all(gone(pid_of(tmp_path, worker)) for worker in ("w0", "w1"))
    assert capfd.readouterr() == ("", "")


def test_an_actor_that_dies_idle_does_no_harm(tmp_path):
    slow, quick = make_shards(1, 40)[0], make_shards(2, 1)[1]
    watched = Watched(
        tmp_path,
        [slow, quick],
        ShardDone,
        lambda event: os.kill(pid_of(tmp_path, event.worker), signal.SIGKILL),
        storage={"picture_s": 0.05},
    )

    result = run_on_ray(watched.run, None, 1, StandIn)

    assert (result.exit_code, result.shards) == (0, 2)
    assert [type(one) for one in watched.events].count(WorkerDied) == 1


def test_a_refusal_keeps_its_type_its_code_and_its_line(tmp_path):
    run, _ = engine_input(tmp_path, make_shards(4), storage={"load": "not shared"})

    result = run_on_ray(run, None, 1, StandIn)

    assert type(result.error) is StoreNotSharedError
    assert result.error.node == "node-7"
    assert result.exit_code == 3
    assert result.reason == str(result.error)


def test_workers_that_never_come_up_end_the_run_with_the_last_reason(tmp_path):
    run, seen = engine_input(tmp_path, make_shards(1), storage={"load": "dies, then raises"})

    result = run_on_ray(run, None, 1, StandIn)

    assert result.exit_code == 5
    assert result.reason.endswith("3 in a row: OSError: no space left on device")
    assert "w0 failed to start: its process was killed or crashed (pid" in seen["notes"][0]
    assert len(seen["notes"]) == 3


def test_a_stop_drains_the_workers_and_ends_with_75(tmp_path):
    watched = Watched(
        tmp_path,
        make_shards(8, 50),
        Pulse,
        lambda _: watched.run.stop.request("SIGTERM"),
        storage={"picture_s": 0.02},
    )

    result = run_on_ray(watched.run, None, 1, StandIn)

    assert (result.exit_code, result.reason) == (75, "SIGTERM")
    assert result.shards < 8
    assert result.workers_lost == 0
    assert list(tmp_path.glob("w*.ended"))
    assert all(gone(int(path.read_text())) for path in tmp_path.glob("w*.pid"))


def test_a_worker_whose_node_leaves_returns_its_leases_and_is_replaced(tmp_path, monkeypatch):
    node = ray.nodes()[0]["NodeID"]
    leaving = {}
    monkeypatch.setattr(ray._private.state.state, "get_draining_nodes", lambda: dict(leaving))
    watched = Watched(
        tmp_path,
        make_shards(4, 20),
        Pulse,
        lambda _: leaving.update({node: 0}),
        workers=1,
        storage={"picture_s": 0.05},
    )

    def on_note(line):
        leaving.clear()
        watched.seen["notes"].append(line)

    object.__setattr__(watched.run, "on_note", on_note)

    result = run_on_ray(watched.run, None, 1, StandIn)

    assert (result.exit_code, result.workers_lost) == (0, 0)
    assert watched.seen["notes"] == ["w0 is drained: its node is about to leave"]
    assert {facts_of(tmp_path, one)["care"] for one in range(4)} == {0}
    assert facts_of(tmp_path, 3)["worker"] == "w1"


def test_workers_end_in_order_at_the_end_of_a_run(tmp_path):
    run, _ = engine_input(tmp_path, make_shards(4))

    started = time.monotonic()
    result = run_on_ray(run, None, 1, StandIn)

    assert result.exit_code == 0
    assert (tmp_path / "w0.ended").exists()
    assert (tmp_path / "w1.ended").exists()
    assert time.monotonic() - started < 20


CONNECT = """
import sys
from sdbatch.engine import ray_room
from sdbatch.engine.ray_engine import run_on_ray
from tests.engine.standin import StandIn, engine_input, make_shards

ray_room.FIRST_GPU_S = 0.2
run, seen = engine_input(sys.argv[1], make_shards(4))
print(run_on_ray(run, sys.argv[2], 1, StandIn).exit_code)
print(seen["notes"][-1])
"""


def test_a_running_cluster_is_used_by_its_address_and_left_running(tmp_path):
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", CONNECT, str(tmp_path), address],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.stdout == ("0\nno GPU came, and no autoscaler could bring one: drawing on CPUs\n")
    assert len(list(tmp_path.glob("*.commit"))) == 4
    assert ray.is_initialized()
    assert ray.nodes()[0]["Alive"]

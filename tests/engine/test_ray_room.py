"""How many workers have room, whatever nodes come and go; nodes and autoscaler are made up."""

from dataclasses import replace

import pytest
import ray
import ray._private.state

from sdbatch.engine import ray_room
from sdbatch.engine.ray_room import ClusterRoom
from tests.engine.standin import RENDER, engine_input, make_shards


class Nodes:
    """A cluster that a test changes at will."""

    def __init__(self, monkeypatch):
        self.all, self.most = [], None
        monkeypatch.setattr(ray, "nodes", lambda: self.all)
        state = ray._private.state.state
        monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: self.most)

    def add(self, name, alive=True, **resources):
        self.all = [*self.all, {"NodeID": name, "Alive": alive, "Resources": resources}]

    def remove(self, name):
        self.all = [node for node in self.all if node["NodeID"] != name]


@pytest.fixture
def nodes(monkeypatch):
    monkeypatch.setattr(ray_room, "FIRST_GPU_S", 0.05)
    monkeypatch.setattr(ray_room, "LOOK_EVERY_S", 0.01)
    return Nodes(monkeypatch)


def room(tmp_path, address="h:1", cpu_threads=1, **changes):
    run, seen = engine_input(tmp_path, make_shards(2), **({"workers": None} | changes))
    return ClusterRoom(run, address, cpu_threads), seen["notes"]


def test_workers_follow_gpus_that_come_and_go(nodes, tmp_path):
    nodes.add("a", CPU=8.0, GPU=2.0)
    here, _ = room(tmp_path)
    first = (here.workers, here.gpus_each, here.waits_for)
    nodes.add("b", CPU=8.0, GPU=4.0)
    grown = here.changed([]), here.workers
    leaving = here.changed(["b"]), here.workers
    nodes.remove("b")
    same = here.changed([]), here.workers

    assert first == (2, 1, "GPUs")
    assert grown == (True, 6)
    assert leaving == (True, 2)
    assert same == (False, 2)


def test_a_dead_node_has_no_room(nodes, tmp_path):
    nodes.add("a", CPU=4.0)
    nodes.add("b", alive=False, CPU=4.0)

    assert room(tmp_path, address=None)[0].workers == 4


def test_cpus_of_different_nodes_make_no_worker_together(nodes, tmp_path):
    nodes.add("a", CPU=3.0)
    nodes.add("b", CPU=3.0)

    assert room(tmp_path, address=None, cpu_threads=2)[0].workers == 2


def test_workers_that_were_asked_for_do_not_follow_nodes(nodes, tmp_path):
    nodes.add("a", CPU=4.0, GPU=1.0)
    here, _ = room(tmp_path, workers=8)
    nodes.add("b", CPU=4.0, GPU=1.0)

    assert here.workers == 8
    assert not here.changed([])


def test_this_machine_gives_no_more_workers_than_it_has_gpus(nodes, tmp_path):
    nodes.add("a", CPU=4.0, GPU=2.0)

    here, notes = room(tmp_path, address=None, workers=5)

    assert here.workers == 2
    assert notes == ["5 workers wanted, this machine has 2 GPUs: 2 workers"]


def test_gpus_that_an_autoscaler_may_bring_are_waited_for(nodes, tmp_path):
    nodes.add("head", CPU=4.0)
    nodes.most = {"CPU": 64, "GPU": 8}

    here, notes = room(tmp_path)
    nodes.add("b", CPU=8.0, GPU=4.0)
    grown = here.changed([]), here.workers

    assert (here.gpus_each, here.waits_for) == (1, "GPUs")
    assert notes == ["the cluster at h:1 has no GPU yet: its autoscaler is asked"]
    assert grown == (True, 4)


def test_a_first_gpu_that_joins_in_time_is_taken(nodes, tmp_path, monkeypatch):
    nodes.add("head", CPU=4.0)
    monkeypatch.setattr(ray_room, "FIRST_GPU_S", 30.0)
    monkeypatch.setattr(ray_room.time, "sleep", lambda _: nodes.add("b", CPU=8.0, GPU=1.0))

    here, notes = room(tmp_path)

    assert (here.gpus_each, here.workers) == (1, 1)
    assert len(notes) == 1


def test_a_cluster_to_which_no_gpu_can_come_draws_on_cpus_and_says_so(nodes, tmp_path):
    nodes.add("head", CPU=4.0)
    nodes.most = {"CPU": 64}

    here, notes = room(tmp_path)

    assert (here.gpus_each, here.workers, here.waits_for) == (0, 4, "workers")
    assert "no autoscaler could bring one: drawing on CPUs" in notes[-1]


def test_the_fake_model_takes_no_gpu_from_anybody(nodes, tmp_path):
    nodes.add("a", CPU=4.0, GPU=2.0)

    here, _ = room(tmp_path, render=replace(RENDER, model_path="fake:ms=1"))

    assert (here.gpus_each, here.workers) == (0, 4)


def test_the_promised_number_is_never_zero(nodes, tmp_path):
    assert room(tmp_path, address=None)[0].workers == 1


def drawing(device):
    """A real model on that device."""
    return replace(RENDER, model_path="/models/m", device=device)


def test_a_run_on_the_cpu_takes_no_gpu_from_anybody(nodes, tmp_path):
    nodes.add("a", CPU=8.0, GPU=2.0)
    here, notes = room(tmp_path, render=drawing("cpu"), cpu_threads=2)

    assert (here.gpus_each, here.workers, here.waits_for) == (0, 4, "workers")
    assert notes == []


def test_an_apple_gpu_takes_one_worker(nodes, tmp_path, monkeypatch):
    nodes.add("a", CPU=8.0)
    asked, notes = room(tmp_path, address=None, render=drawing("mps"), workers=4)
    assert (asked.workers, asked.gpus_each) == (1, 0)
    assert notes == ["4 workers wanted: 1, one for each Apple GPU"]

    assert room(tmp_path, address=None, render=drawing("auto"))[0].workers == 8
    monkeypatch.setattr(ray_room.sys, "platform", "darwin")
    monkeypatch.setattr(ray_room.platform, "machine", lambda: "arm64")
    assert room(tmp_path, address=None, render=drawing("auto"))[0].workers == 1
    assert room(tmp_path, address=None, render=drawing("cpu"))[0].workers == 8
    fake = replace(RENDER, model_path="fake:")
    assert room(tmp_path, address=None, render=fake)[0].workers == 8  # drawn without torch

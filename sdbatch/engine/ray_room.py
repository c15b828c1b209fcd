"""How many workers a cluster has room for, now and whenever nodes come or go.

Nodes about to leave do not count. A cluster without any GPU is one of CPUs, unless its
autoscaler could bring GPUs: then workers ask for one each and wait, which is what an
autoscaler goes by.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
import ray._private.state
from ray.exceptions import RayError

from sdbatch.engine.driver_loop import EngineInput
from sdbatch.model_specs import RenderSpec

FIRST_GPU_S = 10.0
"""Nodes of a cluster that is just coming up are given this long to bring the first GPU."""

LOOK_EVERY_S = 0.5


class ClusterRoom:
    """The room for one run's workers.

    Attributes:
        workers: Workers to have at most, as of the last look.
        gpus_each: GPUs that a worker takes: 1, or 0 where there are none.
    """

    def __init__(self, run: EngineInput, address: str | None, cpu_threads: int) -> None:
        self._run, self._cpu_threads = run, cpu_threads
        self._asked = run.workers
        self._one_a_machine = _takes_one(run.render, address)
        self.gpus_each = int(self._has_gpus(address))
        if self.gpus_each and address is None and self._asked is not None:
            self._cut_to_this_machine(self._asked)
        self.workers = self._count()
        if self._asked is not None and self.workers < self._asked:
            run.on_note(f"{self._asked} workers wanted: {self.workers}, one for each Apple GPU")

    @property
    def waits_for(self) -> str:
        """What a worker needs before it can start, for people."""
        return "GPUs" if self.gpus_each else "workers"

    def changed(self, leaving: Iterable[str]) -> bool:
        """Look again; True when nodes came or went and the number follows them.

        Args:
            leaving: Ids of nodes that are being drained.
        """
        before, self.workers = self.workers, self._count(leaving)
        return self.workers != before

    def _count(self, leaving: Iterable[str] = ()) -> int:
        if self._asked is not None and not self._one_a_machine:
            return self._asked
        gone = set(leaving)
        nodes = [one["Resources"] for one in alive_nodes() if one["NodeID"] not in gone]
        if self._one_a_machine:
            return max(1, min(len(nodes), self._asked or len(nodes)))
        if self.gpus_each:
            return max(1, sum(int(node.get("GPU", 0)) for node in nodes))
        return max(1, sum(int(node.get("CPU", 0)) // self._cpu_threads for node in nodes))

    def _cut_to_this_machine(self, asked: int) -> None:
        gpus = _gpus(alive_nodes())
        if asked > gpus:
            self._run.on_note(
                f"{asked} workers wanted, this machine has {gpus} GPUs: {gpus} workers"
            )
            self._asked = gpus

    def _has_gpus(self, address: str | None) -> bool:
        render = self._run.render
        if render.model_path.startswith("fake:") or render.device in ("cpu", "mps"):
            return False  # drawn without torch, or on what Ray does not count
        if _gpus(alive_nodes()):
            return True
        if address is None:
            return False
        if _gpus_to_come():
            self._run.on_note(f"the cluster at {address} has no GPU yet: its autoscaler is asked")
            return True
        return self._wait_for_the_first(address)

    def _wait_for_the_first(self, address: str) -> bool:
        self._run.on_note(
            f"the cluster at {address} has no GPU: waiting {FIRST_GPU_S:.0f} s for one, "
            "then CPUs draw"
        )
        deadline = time.monotonic() + FIRST_GPU_S
        while time.monotonic() < deadline and not self._run.stop.is_set():
            time.sleep(LOOK_EVERY_S)
            if _gpus(alive_nodes()):
                return True
        self._run.on_note("no GPU came, and no autoscaler could bring one: drawing on CPUs")
        return False


def _takes_one(render: RenderSpec, address: str | None) -> bool:
    """Whether all workers of a machine would share one GPU that Ray does not count: Apple's."""
    if render.model_path.startswith("fake:"):
        return False
    here = sys.platform == "darwin" and platform.machine() == "arm64" and address is None
    return render.device == "mps" or (render.device == "auto" and here)


def alive_nodes() -> list[Mapping[str, Any]]:
    """Nodes that are known to live."""
    return [node for node in ray.nodes() if node["Alive"]]


def leaving_nodes() -> dict[str, int]:
    """Nodes that are being drained, and until when: milliseconds since 1970, 0 for no limit."""
    try:
        found: dict[str, int] = ray._private.state.state.get_draining_nodes()
    except (AttributeError, RayError, RuntimeError):
        return {}  # not part of Ray's promised interface
    return found


def _gpus(nodes: Iterable[Mapping[str, Any]]) -> int:
    return sum(int(node["Resources"].get("GPU", 0)) for node in nodes)


def _gpus_to_come() -> bool:
    """Whether an autoscaler says that it may start nodes with GPUs."""
    try:
        most = ray._private.state.state.get_max_resources_from_cluster_config()
    except (AttributeError, RayError, RuntimeError):
        return False  # not part of Ray's promised interface
    return bool(most and most.get("GPU", 0))

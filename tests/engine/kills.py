"""Real drivers and real nodes to kill, and a check of every row of what they drew.

Drivers are `sdbatch render` as a person starts it, in processes of their own; nodes are
raylets of one live cluster on this machine. Everything is found, stopped and killed by the
process ids of this cluster and these drivers alone.
"""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
from PIL import Image

from sdbatch import api
from sdbatch.render.fake import Painted, read_fake

ROOT = Path(__file__).parents[2]
STORE_BYTES = 80 * 2**20
START = "import sys; {prologue}; from sdbatch.cli.main import main; main()"


class LiveCluster:
    """A head that draws nothing, and nodes with one place for a worker each."""

    def __init__(self, nodes=3):
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self.nodes = []
        for _ in range(nodes):
            self.add()

    def add(self):
        """One more node."""
        node = self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        self.nodes.append(node)
        return node

    def kill_node(self, node):
        """SIGKILL its raylet; what runs there goes with it."""
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def knows_its_nodes(self):
        """Whether Ray has seen every death: until then it may place actors on the dead."""
        alive = sum(bool(one["Alive"]) for one in self._cluster.global_state.node_table())
        return alive == len(self.nodes) + 1

    def drain_node(self, node, seconds):
        """What a cloud does before it takes a machine away."""
        script = Path(sys.executable).with_name("ray")
        subprocess.run(
            [str(script), "drain-node", "--address", self.address, "--node-id", node.node_id,
             "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
             "--deadline-remaining-seconds", str(seconds)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def raylet(self, node):
        """The process of a node."""
        return psutil.Process(node.all_processes["raylet"][0].process.pid)

    def actors(self, node=None):
        """Worker processes that run on this cluster, or on one node of it."""
        found = []
        for one in [node] if node else self.nodes:
            with contextlib.suppress(psutil.Error):
                found += [p for p in self.raylet(one).children() if _draws(p)]
        return found

    def close(self):
        """End everything."""
        self._cluster.shutdown()


def _draws(process):
    with contextlib.suppress(psutil.Error):
        return any(word.startswith("ray::") and "Worker" in word for word in process.cmdline())
    return False


class Driver:
    """One `sdbatch render`, or another command that draws.

    Args:
        prologue: Python that runs first; tests shorten patience with it.
        verb: `render`, `retry` or `repair`.
    """

    def __init__(self, log, *args, prologue="pass", verb="render"):
        command = [sys.executable, "-c", START.format(prologue=prologue), verb]
        self.log = Path(log)
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [*command, *map(str, args)], stderr=sink, env=environment()
            )

    def signal(self, number):
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self, seconds):
        """Wait for its exit code."""
        return self.process.wait(seconds)

    @property
    def said(self):
        """All that it and those before it with this log said."""
        return self.log.read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Whatever is left of it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


def environment():
    """That of this process, with the sources where Ray's workers find them."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def committed(out):
    """Keys of commit records that stand."""
    return {path.name for path in (Path(out) / "__sdbatch/main/commits").rglob("*.json")}


def wait_for(condition, what, seconds=60.0):
    """The first true value of a condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"no {what} within {seconds} s")


def faults(out, rows, size=64):
    """What is wrong with a finished dataset of fake pictures: (lost, doubled, misplaced).

    Every row of every file is looked at: its prompt must be that of its place, and its
    picture must show its place, its seed and its hash.
    """
    seen, doubled, misplaced = set(), set(), set()
    for path in api.open_dataset(out).files():
        for row in pq.read_table(path).to_pylist():
            place = row["row_index"]
            if place in seen:
                doubled.add(place)
            seen.add(place)
            pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
            whose = Painted.of(place, row["image_index"], row["seed"], row["row_hash"])
            right = pixels.shape == (size, size, 3) and read_fake(pixels) == whose
            if not right or row["prompt"] != f"picture number {place}":
                misplaced.add(place)
    return set(range(rows)) - seen, doubled, misplaced


def demand_whole(out, rows):
    """Every row once, in its place, and everything that `verify` can prove."""
    assert faults(out, rows) == (set(), set(), set())
    report = api.open_dataset(out).verify(3)
    assert report.exit_code == 0, report

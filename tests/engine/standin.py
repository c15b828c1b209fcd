"""A worker without a model: it sleeps for every picture and commits by creating a file.

`output` is a local folder. `storage` holds its knobs: `picture_s`, `load_s`, and under
`load` the fault that loading meets.
"""

import json
import os
import queue
import threading
import time
from pathlib import Path

from sdbatch.engine.driver_loop import EngineInput, Stop
from sdbatch.engine.events import (
    LeaseReturned,
    Pulse,
    ShardDone,
    WorkerReady,
)
from sdbatch.errors import StoreNotSharedError
from sdbatch.model_specs import RenderEnv, RenderSpec
from sdbatch.output_specs import ImageSpec
from sdbatch.records import ManifestRef, RowDefaults, RunSpec, Shard

RENDER = RenderSpec("m", "/nowhere/m", "rev", "auto", {}, 1)
SPEC = RunSpec(
    plan_id="plan",
    output="out",
    storage={},
    run="main",
    num_shards=8,
    manifest=ManifestRef("m.parquet", (), "id"),
    defaults=RowDefaults("", 64, 64, 10, 5.0, "DDIMScheduler", "", 1),
    seed=0,
    hash_rows=False,
    occurrences_key="",
    schema_key="",
    render=RENDER,
    image=ImageSpec(),
    checkpoint_every_s=60.0,
    retries=2,
)


def make_shards(count, images=4):
    return [
        Shard(number, number * images, (number + 1) * images, "", 0, images, images, 1.0)
        for number in range(count)
    ]


def ready(worker):
    env = RenderEnv("cpu", "cpu", "float32", "Pipe", "2", "0", "")
    return WorkerReady(worker, "node", env, {"64x64": 8}, 0.1)


class StandIn:
    def __init__(self, name, output, storage, pulse_s):
        self.name, self.out, self.knobs = name, Path(output), dict(storage)
        self.pulse_s = pulse_s
        self.leases = queue.SimpleQueue()
        self.draining = threading.Event()

    def load(self, render, sizes, token, spool_bytes=0, run="main", image=None):
        time.sleep(self.knobs.get("load_s", 0))
        fault = self.knobs.get("load")
        if fault == "not shared":
            raise StoreNotSharedError("node-7", "file:///out")
        if fault == "dies, then raises":
            if self.name == "w0":
                os._exit(7)
            raise OSError("no space left on device")
        (self.out / f"{self.name}.pid").write_text(str(os.getpid()))
        return ready(self.name)

    def offer(self, lease):
        self.leases.put(lease)

    def drain(self, within_s=None):
        self.draining.set()

    def share(self, shard_id):
        """Nothing is shared here: the slower attempt loses."""

    def abandon(self, shard_id):
        """The shard is drawn to its end all the same, and loses."""

    def ping(self):
        return time.monotonic()

    def work(self, spec):
        try:
            yield from self.draw_leases()
        finally:
            (self.out / f"{self.name}.ended").touch()

    def draw_leases(self):
        while not self.draining.is_set():
            try:
                lease = self.leases.get(timeout=0.02)
            except queue.Empty:
                continue
            yield from self.draw(lease)
        while not self.leases.empty():
            yield LeaseReturned(self.name, self.leases.get().shard.shard_id)

    def draw(self, lease):
        shard = lease.shard
        for number in range(shard.num_images):
            if self.draining.is_set():
                yield LeaseReturned(self.name, shard.shard_id)
                return
            time.sleep(self.knobs.get("picture_s", 0.01))
            yield Pulse(self.name, {shard.shard_id: number + 1}, 1, "drawing")
        yield self.commit(lease)

    def commit(self, lease):
        shard = lease.shard
        facts = {"worker": self.name, "attempt": lease.attempt, "care": lease.care}
        try:
            with open(self.out / f"{shard.shard_id}.commit", "x") as file:
                json.dump(facts, file)
            won = True
        except FileExistsError:
            won = False
        return ShardDone(
            self.name, shard.shard_id, won, shard.num_images, 0, 0, 10, 20, 25, {"write": 0.5}
        )


def engine_input(out, shards, **changes):
    """An input whose hooks append to lists: `notes`, `events`, `progress` on the result."""
    seen = {"notes": [], "events": [], "progress": []}
    images = sum(shard.num_images for shard in shards)
    values = {
        "output": str(out),
        "storage": {},
        "render": RENDER,
        "sizes": ((64, 64),),
        "token": "token",
        "shards": shards,
        "images_total": images,
        "images_done": 0,
        "failed_done": 0,
        "shards_total": len(shards),
        "shards_done": 0,
        "workers": 2,
        "wait_s": 60.0,
        "retries": 2,
        "stop_after": None,
        "pulse_s": 0.5,
        "settle": lambda _: SPEC,
        "on_progress": seen["progress"].append,
        "on_note": seen["notes"].append,
        "on_event": seen["events"].append,
        "stop": Stop(),
    }
    return EngineInput(**(values | changes)), seen

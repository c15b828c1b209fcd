"""A worker: shards in, commits out, as an engine sees it.

A plain class, so that the inline engine calls it and the Ray engine wraps it without
this file knowing. Orders may come from any thread while `work` runs; `desk.py` carries
them out.
"""

from __future__ import annotations

import queue
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbatch.dataset.encoders import demand_encoder
from sdbatch.engine.commit_shard import Ledger
from sdbatch.engine.desk import Desk
from sdbatch.engine.events import Event, Lease, WorkerReady
from sdbatch.engine.log_file import LogFile
from sdbatch.engine.orders import Dropped, Orders, Shared
from sdbatch.engine.orphan_watch import orphan_watch
from sdbatch.engine.own_folder import own_folder
from sdbatch.engine.planned_model import planned_folder
from sdbatch.engine.spool_room import reserve
from sdbatch.errors import StoreNotSharedError
from sdbatch.model_specs import RenderSpec
from sdbatch.output_specs import ImageSpec
from sdbatch.records import RunSpec
from sdbatch.render.judges.scorers import load_panel
from sdbatch.render.loading import load_renderer
from sdbatch.storage.layout import MAIN, token_key
from sdbatch.storage.store import open_store

SPOOL_PREFIX = "sdbatch-spool-"


class Worker:
    """One process that holds one loaded model and draws shards with it.

    Args:
        name: Given by the engine.
        output: URL of the dataset.
        storage: fsspec options of that URL.
        pulse_s: How often `work` says that it is alive.
    """

    def __init__(self, name: str, output: str, storage: Mapping[str, Any], pulse_s: float) -> None:
        self._name, self._output, self._storage = name, output, storage
        self._pulse_s = pulse_s
        self._orders: Orders = queue.SimpleQueue()
        self._draining = threading.Event()
        self._hurry = threading.Event()
        self._desk: Desk | None = None
        self._owned = ExitStack()
        weakref.finalize(self, self._owned.close)  # also of a worker that never works

    def load(
        self,
        render: RenderSpec,
        sizes: tuple[tuple[int, int], ...],
        token: str,
        spool_bytes: int = 0,
        run: str = MAIN,
        image: ImageSpec = ImageSpec(),  # noqa: B008  # frozen
    ) -> WorkerReady:
        """Load the model, see the output that the driver sees, and reserve local disk.

        Args:
            spool_bytes: What this worker will need there at most.
            run: Whose folder holds the token.
            image: How pictures are stored.

        Raises:
            JobError: The encoder of the plan is not installed here.
            StoreNotSharedError: The driver's token is not there.
            LocalDiskError: The disk has no room for the spools of this node's workers.
            ModelError: The weights cannot be loaded.
        """
        started = time.monotonic()
        node = socket.gethostname()
        demand_encoder(image)
        self._token = token
        self._store = open_store(self._output, self._storage)
        if self._store.head(token_key(token, run)) is None:
            raise StoreNotSharedError(node, self._store.url)
        self._folder = self._own_folder()
        reserve(self._folder, spool_bytes, SPOOL_PREFIX)
        self._store.put(token_key(f"{token}-{self._name}", run), node.encode())
        # First, so that the choice of lanes finds the memory that scorers leave.
        self._panel = load_panel(render.scorers, render.cpu_threads)
        here = replace(render, model_path=planned_folder(render, storage=self._storage))
        self._renderer = load_renderer(here, sizes)
        seconds = time.monotonic() - started
        self._ledger = Ledger(self._renderer, load_seconds=seconds)
        renderer = self._renderer
        return WorkerReady(self._name, node, renderer.env, renderer.lanes, seconds, renderer.notes)

    def _own_folder(self) -> Path:
        """A folder for spools that goes with this worker, even if it is killed."""
        base = Path(tempfile.gettempdir())
        folder = self._owned.enter_context(own_folder(SPOOL_PREFIX, base))
        self._owned.enter_context(orphan_watch(folder))
        return folder

    def offer(self, lease: Lease) -> None:
        """Take a lease; it is opened and drawn in turn. Any thread may call."""
        self._orders.put(lease)

    def share(self, shard_id: int) -> None:
        """Another worker draws this shard too: meet it in the middle. Any thread may call."""
        self._orders.put(Shared(shard_id))

    def abandon(self, shard_id: int) -> None:
        """Drop a shard, leased before, without a word. Any thread may call."""
        self._orders.put(Dropped(shard_id))

    def drain(self, within_s: float | None = None) -> None:
        """Finish what is in flight, store it in parts, return the leases. Any thread may call.

        Args:
            within_s: The process is ended after this. Too short for most pictures, what is
                in flight is left behind and the rest is stored at once.
        """
        desk = self._desk
        if within_s is not None and (desk is None or within_s < desk.longest_picture_s):
            self._hurry.set()
        self._draining.set()

    def work(self, spec: RunSpec) -> Iterator[Event]:
        """Draw leases until drained; yields what happens."""
        log = LogFile(self._store, spec.run, self._token, self._name)
        with self._owned:
            try:
                self._desk = Desk(
                    name=self._name,
                    store=self._store,
                    renderer=self._renderer,
                    ledger=self._ledger,
                    panel=self._panel,
                    spec=spec,
                    folder=self._folder,
                    log=log,
                    orders=self._orders,
                    draining=self._draining,
                    hurry=self._hurry,
                    pulse_s=self._pulse_s,
                )
                yield from self._desk.events()
            finally:
                log.close()

"""A worker: shards in, commits out. Render, dataset and storage meet only here.

A plain class, so that the inline engine calls it and the Ray engine wraps it without
this file knowing. Four kinds of threads share the work and never wait for one another
without bound: one opens leased shards, one draws without a pause across all of them,
a few encode, one writes parts and commits. `work` itself only carries their events out.
"""

from __future__ import annotations

import queue
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdbatch.engine.canary import Lookout
from sdbatch.engine.commit_shard import Ledger, commit_shard
from sdbatch.engine.events import (
    Event,
    FirstPictures,
    Lease,
    LeaseReturned,
    PictureFact,
    Pulse,
    ShardFailed,
    WorkerReady,
)
from sdbatch.engine.open_shard import OpenShard, ShardOpener
from sdbatch.engine.own_folder import own_folder
from sdbatch.engine.planned_model import planned_folder
from sdbatch.errors import RenderError, SdbatchError, StoreNotSharedError
from sdbatch.records import RenderedImage, RenderRow, RenderSpec, RowFailure, RunSpec
from sdbatch.render.loading import load_renderer
from sdbatch.render.protocol import Renderer
from sdbatch.storage.layout import token_key
from sdbatch.storage.parts import Parts
from sdbatch.storage.store import open_store

ENCODE_THREADS = 2
MAX_ENCODING = 64  # pictures between the renderer and the spool
MAX_WRITING = 2  # finished shards between the spool and their commit
SPOOL_PREFIX = "sdbatch-spool-"
IDLE_S = 0.02  # how soon an idle renderer looks for rows again
WAKE_S = 0.2  # a queue wakes its reader at once; this long it looks whether all is over


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
        self._leases: queue.SimpleQueue[Lease] = queue.SimpleQueue()
        self._draining = threading.Event()

    def load(
        self, render: RenderSpec, sizes: tuple[tuple[int, int], ...], token: str
    ) -> WorkerReady:
        """Load the model and see the output that the driver sees.

        Raises:
            StoreNotSharedError: The driver's token is not there.
            ModelError: The weights cannot be loaded.
        """
        started = time.monotonic()
        node = socket.gethostname()
        self._store = open_store(self._output, self._storage)
        if self._store.head(token_key(token)) is None:
            raise StoreNotSharedError(node, self._store.url)
        self._store.put(token_key(f"{token}-{self._name}"), node.encode())
        here = replace(render, model_path=planned_folder(render))
        self._renderer: Renderer = load_renderer(here, sizes)
        seconds = time.monotonic() - started
        self._ledger = Ledger(self._renderer, load_seconds=seconds)
        renderer = self._renderer
        return WorkerReady(self._name, node, renderer.env, renderer.lanes, seconds, renderer.notes)

    def offer(self, lease: Lease) -> None:
        """Take a lease; it is opened and drawn in turn. Any thread may call."""
        self._leases.put(lease)

    def drain(self) -> None:
        """Finish what is in flight, store it in parts, return the leases. Any thread may call."""
        self._draining.set()

    def work(self, spec: RunSpec) -> Iterator[Event]:
        """Draw leases until drained; yields what happens."""
        with own_folder(SPOOL_PREFIX, Path(tempfile.gettempdir())) as folder:
            yield from _Desk(self, spec, folder).events()


class _Desk:
    """The threads of one `work` call and the shards between them."""

    def __init__(self, worker: Worker, spec: RunSpec, folder: Path) -> None:
        self._name, self._store = worker._name, worker._store
        self._renderer, self._ledger = worker._renderer, worker._ledger
        self._leases, self._draining = worker._leases, worker._draining
        self._pulse_s = worker._pulse_s
        self._spec, self._folder = spec, folder
        self._opener = ShardOpener(self._store, spec, self._renderer.env, folder)
        self._parts = Parts(self._store, spec.run)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._open: list[OpenShard] = []
        self._shards_lock = threading.Lock()
        self._encoders = ThreadPoolExecutor(ENCODE_THREADS, "encode")
        self._writer = ThreadPoolExecutor(1, "write")
        self._encoding = threading.BoundedSemaphore(MAX_ENCODING)
        self._writing = threading.BoundedSemaphore(MAX_WRITING)
        self._drawing = 0  # pictures inside the renderer; only the render thread writes it
        self._saved_at = time.monotonic()
        self._lookout = Lookout()

    def events(self) -> Iterator[Event]:
        """Run the threads; yield their events, and a pulse now and then, until all is drained."""
        threads = [
            threading.Thread(target=self._open_shards, name="open", daemon=True),
            threading.Thread(target=self._render, name="render", daemon=True),
        ]
        for thread in threads:
            thread.start()
        pulsed = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            event = self._next_event()
            if event is not None:
                yield event
            if time.monotonic() - pulsed >= self._pulse_s:
                pulsed = time.monotonic()
                yield self._pulse()
                self._tell(self._lookout.rest())
            self._save_when_due()
        self._encoders.shutdown(wait=True)
        self._writer.shutdown(wait=True)
        self._tell(self._lookout.rest())
        self._return_leases()
        while not self._events.empty():
            yield self._events.get()

    def _next_event(self) -> Event | None:
        try:
            return self._events.get(timeout=min(WAKE_S, self._pulse_s))
        except queue.Empty:
            return None

    # -- opening ---------------------------------------------------------------------

    def _open_shards(self) -> None:
        while not self._draining.is_set():
            try:
                lease = self._leases.get(timeout=WAKE_S)
            except queue.Empty:
                continue
            try:
                shard = self._opener.open(lease)
            except Exception as error:  # noqa: BLE001  # a worker turns every fault into an event
                self._say_failed(lease.shard.shard_id, error)
                continue
            with self._shards_lock:
                self._open.append(shard)
            self._move_on(shard)

    # -- drawing ---------------------------------------------------------------------

    def _render(self) -> None:
        try:
            for result in self._renderer.render(self._feed()):
                self._drawing -= 1
                self._encoding.acquire()
                self._encoders.submit(self._encode, result)
        except Exception as error:  # noqa: BLE001  # the device or model is beyond use
            self._fail_all(error)

    def _feed(self) -> Iterator[RenderRow | None]:
        """Rows across all open shards; None while others are being drawn and none waits."""
        while not self._draining.is_set():
            row = self._take()
            if row is not None:
                self._drawing += 1
                yield row
            elif self._drawing:
                yield None
            else:
                time.sleep(IDLE_S)

    def _take(self) -> RenderRow | None:
        with self._shards_lock:
            shards = list(self._open)
        alone = next((shard for shard in shards if shard.alone and not shard.complete), None)
        if alone is not None:  # a row under suspicion shares the device with nobody
            return None if self._drawing else alone.take()
        for shard in shards:
            row = shard.take()
            if row is not None:
                return row
        return None

    # -- encoding --------------------------------------------------------------------

    def _encode(self, result: RenderedImage | RowFailure) -> None:
        try:
            shard = self._shard_of(result)
            if shard is None:  # given up meanwhile
                return
            self._tell(self._lookout.see(result))
            try:
                with self._ledger.phase("image_encode"):
                    shard.finish(result)
            except Exception as error:  # noqa: BLE001  # a full disk, an encoder's refusal
                self._give_up(shard, error)
                return
            self._move_on(shard)
        finally:
            self._encoding.release()

    def _shard_of(self, result: RenderedImage | RowFailure) -> OpenShard | None:
        with self._shards_lock:
            return next((s for s in self._open if s.holds(result.row.image_id)), None)

    def _tell(self, facts: tuple[PictureFact, ...]) -> None:
        if facts:
            self._events.put(FirstPictures(self._name, facts))

    # -- writing ---------------------------------------------------------------------

    def _move_on(self, shard: OpenShard) -> None:
        """Commit a shard that is complete, or store the part that its care demands."""
        if shard.claim_commit():
            self._submit_commit(shard)
        elif shard.part_due:
            self._writer.submit(self._save, shard)

    def _submit_commit(self, shard: OpenShard) -> None:
        self._writing.acquire()  # blocks encoding, then drawing: nothing piles up
        self._writer.submit(self._commit, shard)

    def _commit(self, shard: OpenShard) -> None:
        try:
            done = commit_shard(
                shard, self._store, self._spec, self._name, self._ledger, self._folder
            )
            if done.won:
                self._parts.drop(shard.lease.shard.shard_id)
            self._close(shard)
            self._events.put(done)
        except Exception as error:  # noqa: BLE001  # reported; the driver decides
            self._give_up(shard, error)
        finally:
            self._writing.release()

    def _save_when_due(self) -> None:
        if time.monotonic() - self._saved_at < self._spec.checkpoint_every_s:
            return
        self._saved_at = time.monotonic()
        with self._shards_lock:
            shards = [shard for shard in self._open if shard.unsaved]
        for shard in shards:
            self._writer.submit(self._save, shard)

    def _save(self, shard: OpenShard) -> None:
        try:
            shard.save_part(self._parts, self._folder)
            if shard.alone:
                self._events.put(self._pulse())  # the driver must know which picture is next
        except Exception as error:  # noqa: BLE001  # a part is a cache, but a store that fails is not
            self._give_up(shard, error)

    # -- ends ------------------------------------------------------------------------

    def _return_leases(self) -> None:
        with self._shards_lock:
            shards = list(self._open)
        for shard in shards:
            self._save(shard)
            self._close(shard)
            self._events.put(LeaseReturned(self._name, shard.lease.shard.shard_id))
        while not self._leases.empty():
            self._events.put(LeaseReturned(self._name, self._leases.get().shard.shard_id))

    def _fail_all(self, error: Exception) -> None:
        self._draining.set()
        self._encoders.shutdown(wait=True)
        with self._shards_lock:
            shards = list(self._open)
        for shard in shards:
            self._save(shard)
            self._give_up(shard, error, unfit=True)
        if not shards:
            self._say_failed(-1, error, unfit=True)

    def _give_up(self, shard: OpenShard, error: Exception, unfit: bool = False) -> None:
        if self._close(shard):
            self._say_failed(shard.lease.shard.shard_id, error, unfit)

    def _close(self, shard: OpenShard) -> bool:
        """Forget a shard; False when it is forgotten already."""
        with self._shards_lock:
            if shard not in self._open:
                return False
            self._open.remove(shard)
        shard.close()
        return True

    def _say_failed(self, shard_id: int, error: Exception, unfit: bool = False) -> None:
        known = isinstance(error, SdbatchError)
        message = str(error) if known else _one_line(error)
        self._events.put(
            ShardFailed(
                worker=self._name,
                shard_id=shard_id,
                error_type=type(error).__name__,
                message=message,
                exit_code=error.exit_code if isinstance(error, SdbatchError) else 1,
                retryable=unfit or not known or error.retryable,  # type: ignore[attr-defined]
                worker_unfit=unfit or isinstance(error, RenderError),
            )
        )

    def _pulse(self) -> Pulse:
        with self._shards_lock:
            finished = {shard.lease.shard.shard_id: shard.finished for shard in self._open}
            in_flight = sum(shard.in_flight for shard in self._open)
        phase = "drawing" if in_flight else "writing" if finished else "waiting"
        return Pulse(self._name, finished, in_flight, phase)


def _one_line(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({frame[0].filename.rsplit('/', 1)[-1]}:{frame[0].lineno})" if frame else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"

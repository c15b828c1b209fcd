"""The threads of a worker at work, and the shards between them.

Render, dataset and storage meet only here. Four kinds of threads share the work and never
wait for one another without bound: one opens leased shards, one draws without a pause
across all of them, a few encode, one writes parts and commits. `events` itself only carries
their events out. Whatever goes wrong becomes an event; nothing is raised.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sdbatch.engine.canary import Lookout
from sdbatch.engine.commit_shard import Ledger, commit_shard
from sdbatch.engine.daemon_pool import DaemonPool, busy_threads
from sdbatch.engine.desk_words import DeskLog, failed_event
from sdbatch.engine.events import (
    Event,
    FirstPictures,
    Lease,
    LeaseReturned,
    PictureFact,
    Pulse,
    StoreTrouble,
)
from sdbatch.engine.log_file import LogFile
from sdbatch.engine.open_shard import OpenShard, ShardOpener
from sdbatch.engine.orders import Dropped, Orders, Shared
from sdbatch.engine.patience import Patience, patient
from sdbatch.engine.picture_times import PictureTimes
from sdbatch.engine.scoring import Scoring
from sdbatch.errors import StorageError
from sdbatch.records import RenderRow, RunSpec
from sdbatch.render.judges.scorers import Panel
from sdbatch.render.protocol import Renderer
from sdbatch.results import RenderedImage, RowFailure
from sdbatch.storage.parts import Parts
from sdbatch.storage.store import Store

MAX_ENCODERS = 8  # threads: a large AVIF takes a core a third of a second
MAX_ENCODING = 64  # pictures between the renderer and the spool
MAX_WRITING = 2  # finished shards between the spool and their commit
ALONE_AGAIN_S = 1.0  # until a part that must be stored is tried again
SHARE_EVERY_S = 5.0  # how often two workers on one shard look at each other's parts
IDLE_S = 0.02  # how soon an idle renderer looks for rows again
WAKE_S = 0.2  # a queue wakes its reader at once; this long it looks whether all is over


@dataclass
class Desk:
    """One call of a worker's `work`.

    Attributes:
        ledger: What the renderer has spent.
        panel: Judges pictures before they are encoded; None for a run without scorers.
        folder: Local disk for spools and files on their way.
        orders: Leases and what follows on them, in order.
        draining: Set from outside: begin nothing new.
        hurry: Set from outside: do not even wait for what is in flight.
    """

    name: str
    store: Store
    renderer: Renderer
    ledger: Ledger
    spec: RunSpec
    folder: Path
    log: LogFile
    orders: Orders
    draining: threading.Event
    hurry: threading.Event
    pulse_s: float
    panel: Panel | None = None

    def __post_init__(self) -> None:
        self._opener = ShardOpener(self.store, self.spec, self.renderer.env, self.folder)
        self._parts = Parts(self.store, self.spec.run)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._open: list[OpenShard] = []
        self._shared: set[int] = set()
        self._shards_lock = threading.Lock()
        self._encoders = DaemonPool(busy_threads(MAX_ENCODERS), "encode")
        self._writer = DaemonPool(1, "write")
        self._encoding = threading.BoundedSemaphore(MAX_ENCODING)
        self._broken = threading.Event()
        self._writing = threading.BoundedSemaphore(MAX_WRITING)
        self._drawing = 0  # pictures inside the renderer; only the render thread writes it
        self._saved_at = self._shared_at = time.monotonic()
        self._saved = 0
        self._lookout = Lookout()
        self._times = PictureTimes()
        self._say = DeskLog(self.log, self.name)
        onward = partial(self._encoders.submit, self._encode)
        self._scoring = Scoring(self.panel, onward, self.ledger, self._say.unscored, self._fail_all)
        self._patience = Patience(self.draining.is_set, self._say.trouble, self._troubled)

    @property
    def longest_picture_s(self) -> float:
        """What nearly every picture takes at most, and storing what is finished."""
        return self._times.longest_s

    def events(self) -> Iterator[Event]:
        """Run the threads; yield their events, and a pulse now and then, until all is drained."""
        threads = [
            threading.Thread(target=self._open_shards, name="open", daemon=True),
            threading.Thread(target=self._render, name="render", daemon=True),
        ]
        for thread in threads:
            thread.start()
        pulsed = time.monotonic()
        while any(thread.is_alive() for thread in threads) and not self.hurry.is_set():
            event = self._next_event()
            if event is not None:
                yield event
            if self.draining.is_set():
                self.renderer.leave()
            if time.monotonic() - pulsed >= self.pulse_s:
                pulsed = time.monotonic()
                yield self._pulse()
                self._tell(self._lookout.rest())
            self._save_when_due()
        self._scoring.close(drop=self.hurry.is_set())
        self._encoders.shutdown()
        self._writer.shutdown()
        self._tell(self._lookout.rest())
        self._return_leases()
        while not self._events.empty():
            yield self._events.get()

    def _next_event(self) -> Event | None:
        try:
            return self._events.get(timeout=min(WAKE_S, self.pulse_s))
        except queue.Empty:
            return None

    # -- orders ----------------------------------------------------------------------

    def _open_shards(self) -> None:
        while not self.draining.is_set():
            try:
                order = self.orders.get(timeout=WAKE_S)
            except queue.Empty:
                continue
            match order:
                case Lease():
                    self._open_shard(order)
                case Shared(shard_id):
                    with self._shards_lock:
                        self._shared.add(shard_id)
                case Dropped(shard_id):
                    self._abandon(shard_id)

    def _open_shard(self, lease: Lease) -> None:
        try:
            shard = self._opener.open(lease)
        except Exception as error:  # noqa: BLE001  # a worker turns every fault into an event
            self._fail(lease.shard.shard_id, error)
            return
        with self._shards_lock:
            self._open.append(shard)
            if lease.reverse:
                self._shared.add(lease.shard.shard_id)
        self._say.opened(shard)
        self._move_on(shard)

    def _abandon(self, shard_id: int) -> None:
        with self._shards_lock:
            shards = [shard for shard in self._open if shard.lease.shard.shard_id == shard_id]
        for shard in shards:
            self._say.about(shard, "shard_abandoned", "another attempt has it")
            self._close(shard)

    # -- drawing ---------------------------------------------------------------------

    def _render(self) -> None:
        try:
            for result in self.renderer.render(self._feed()):
                self._drawing -= 1
                if not self._admit():
                    return
                self._scoring.put(result)
        except Exception as error:  # noqa: BLE001  # the device or model is beyond use
            if not self.hurry.is_set():  # else the encoders are gone, and nobody waits
                self._fail_all(error)

    def _admit(self) -> bool:
        """Wait for room among the pictures on their way; False when nobody takes them."""
        while not (self.hurry.is_set() or self._broken.is_set()):
            if self._encoding.acquire(timeout=WAKE_S):
                return True
        return False

    def _feed(self) -> Iterator[RenderRow | None]:
        """Rows across all open shards; None while others are being drawn and none waits."""
        while not self.draining.is_set():
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
            self._times.add(result)
            shard = self._shard_of(result)
            if shard is None:  # given up meanwhile
                return
            self._tell(self._lookout.see(result))
            try:
                with self.ledger.phase("image_encode"):
                    shard.finish(result)
            except Exception as error:  # noqa: BLE001  # a full disk, an encoder's refusal
                self._give_up(shard, error)
                return
            self._say.row(shard, result)
            self._move_on(shard)
        finally:
            self._encoding.release()

    def _shard_of(self, result: RenderedImage | RowFailure) -> OpenShard | None:
        with self._shards_lock:
            return next((s for s in self._open if s.holds(result.row.image_id)), None)

    def _tell(self, facts: tuple[PictureFact, ...]) -> None:
        if facts:
            self._events.put(FirstPictures(self.name, facts))

    # -- writing ---------------------------------------------------------------------

    def _move_on(self, shard: OpenShard) -> None:
        """Commit a shard that is complete, or store the part that its care demands."""
        if shard.claim_commit():
            self._writing.acquire()  # blocks encoding, then drawing: nothing piles up
            self._write(self._commit, shard)
        elif shard.part_due:
            self._write(self._save, shard)

    def _write(self, task: Callable[[OpenShard], None], shard: OpenShard) -> None:
        with suppress(RuntimeError):  # the writer has closed: leases are being returned
            self._writer.submit(task, shard)

    def _commit(self, shard: OpenShard) -> None:
        wanted = partial(self._is_open, shard)
        store = patient(self.store, self._patience, wanted, shard.num_images)
        try:
            done = commit_shard(shard, store, self.spec, self.name, self.ledger, self.folder)
            self._patience.succeeded(commit=True)
            self._close(shard)
            self._events.put(done)
            self._say.committed(shard, done)
            if done.won:
                with suppress(StorageError):  # a cache; gc takes what is left
                    self._parts.drop(shard.lease.shard.shard_id, shard.lease.revision)
        except Exception as error:  # noqa: BLE001  # reported; the driver decides
            self._give_up(shard, error)
        finally:
            shutil.rmtree(self.folder / shard.attempt, ignore_errors=True)
            self._writing.release()

    def _save_when_due(self) -> None:
        now = time.monotonic()
        if now - self._shared_at >= SHARE_EVERY_S:
            self._shared_at = now
            for shard in self._shards_open():
                if shard.lease.shard.shard_id in self._shared:
                    self._write(self._meet, shard)
        if now - self._saved_at >= self.spec.checkpoint_every_s:
            self._saved_at = now
            for shard in self._shards_open():
                if shard.unsaved:
                    self._write(self._save, shard)

    def _meet(self, shard: OpenShard) -> None:
        """Give the other worker on this shard what is finished here, and take what it has."""
        self._save(shard)
        try:
            self._opener.catch_up(shard)
        except Exception as error:  # noqa: BLE001  # without, rows are drawn twice: no harm
            self._say.about(shard, "catch_up_failed", str(error), "warning")
            return
        self._move_on(shard)

    def _save(self, shard: OpenShard) -> None:
        """Store a part. A store that fails costs nothing yet: the next part holds it all."""
        if not shard.unsaved or not self._is_open(shard):
            return
        began, pictures = time.monotonic(), shard.unsaved
        try:
            shard.save_part(self._parts, self.folder)
        except Exception as error:  # noqa: BLE001  # the kind decides
            if not self._patience.bears(error, began, pictures):
                self._give_up(shard, error)
            elif shard.alone and not self.draining.is_set():
                time.sleep(ALONE_AGAIN_S)  # it may draw nothing until its part is stored
                self._write(self._save, shard)
            return
        self._saved += self._patience.succeeded(pictures)
        if shard.alone:
            self._events.put(self._pulse())  # the driver must know which picture is next

    def _troubled(self, message: str, failing_s: float, first: bool) -> None:
        self._events.put(StoreTrouble(self.name, message, failing_s, first))

    # -- ends ------------------------------------------------------------------------

    def _return_leases(self) -> None:
        for shard in self._shards_open():
            self._save(shard)
            if self._close(shard):
                self._say.about(shard, "lease_returned", f"{shard.finished} pictures finished")
                self._events.put(LeaseReturned(self.name, shard.lease.shard.shard_id))
        unopened: dict[int, None] = {}
        while not self.orders.empty():
            match self.orders.get():
                case Lease() as lease:
                    unopened[lease.shard.shard_id] = None
                case Dropped(shard_id):
                    unopened.pop(shard_id, None)
        for shard_id in unopened:
            self._events.put(LeaseReturned(self.name, shard_id))

    def _fail_all(self, error: Exception) -> None:
        """The device is beyond use: what is finished is stored, the worker is to be replaced."""
        with self._shards_lock:
            if self._broken.is_set():  # renderer and scorers fail together
                return
            self._broken.set()
        self.draining.set()
        self._scoring.close()
        self._encoders.shutdown()
        shards = self._shards_open()
        for shard in shards:
            self._save(shard)
            self._give_up(shard, error, unfit=True)
        if not shards:
            self._fail(-1, error, unfit=True)

    def _give_up(self, shard: OpenShard, error: Exception, unfit: bool = False) -> None:
        if self._close(shard):
            self._fail(shard.lease.shard.shard_id, error, unfit)

    def _fail(self, shard_id: int, error: Exception, unfit: bool = False) -> None:
        event = failed_event(self.name, shard_id, error, unfit)
        self._say.failed(event, error)
        self._events.put(event)

    def _shards_open(self) -> list[OpenShard]:
        with self._shards_lock:
            return list(self._open)

    def _is_open(self, shard: OpenShard) -> bool:
        with self._shards_lock:
            return shard in self._open

    def _close(self, shard: OpenShard) -> bool:
        """Forget a shard; False when it is forgotten already."""
        with self._shards_lock:
            if shard not in self._open:
                return False
            self._open.remove(shard)
            self._shared.discard(shard.lease.shard.shard_id)
        shard.close()
        return True

    def _pulse(self) -> Pulse:
        shards = self._shards_open()
        finished = {shard.lease.shard.shard_id: shard.finished for shard in shards}
        in_flight = sum(shard.in_flight for shard in shards)
        phase = "drawing" if in_flight else "writing" if finished else "waiting"
        return Pulse(self.name, finished, in_flight, phase, self._saved)

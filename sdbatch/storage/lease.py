"""One driver at a time, to save GPU time. Safety never depends on it.

Each driver opens an epoch by creating an object once and beats beside it. Who finds another
driver's epoch takes over at once when that process is provably gone, and otherwise watches
its heartbeat: by the watcher's own clock, since clocks of machines differ. A beat that moves
means somebody is at work; none for 45 s means nobody is. A driver that was only asleep wakes
to find a higher epoch; what it still commits is valid, as every commit is.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sdbatch.errors import InputError, LeaseHeldError, ObjectNotFoundError, StorageError
from sdbatch.storage import layout
from sdbatch.storage.process_identity import ProcessIdentity, is_gone, this_process
from sdbatch.storage.retrying import remaining_s
from sdbatch.storage.store import Store

HEARTBEAT_S = 10.0
LOOK_S = 5.0  # how often a driver looks whether somebody asks it to stop
STALE_S = 45.0
POLL_S = 1.0
JOIN_S = 150.0  # a beat of two verbs or a look is over by then, unless all hangs

_here: set[str] = set()  # lease ids held by this very process


@dataclass(frozen=True, slots=True)
class Epoch:
    """Who drives a run.

    Attributes:
        number: From 1; the highest one drives.
        lease_id: Unique to the taking of this lease.
        since: When it was taken, UTC, by its own clock.
    """

    number: int
    lease_id: str
    owner: ProcessIdentity
    since: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life.

    Attributes:
        beat: Rises by one each time.
        at: UTC by the driver's clock; for people only.
        ended: The driver has left in good order.
    """

    beat: int
    at: str
    ended: bool


def _say_nothing(_line: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class StopAnswer:
    """Whom a request to stop reached.

    Attributes:
        url: The dataset.
        asked: Whether there may be anybody to hear it.
        driver: Process and machine of the last driver.
        seen_at: Its last sign of life, by its own clock; None when there was none.
    """

    url: str
    asked: bool
    driver: str
    seen_at: str | None


@contextmanager
def hold_lease(
    store: Store,
    run: str = layout.MAIN,
    *,
    on_wait: Callable[[str], None] = _say_nothing,
    on_lost: Callable[[str], None] = _say_nothing,
    on_stop: Callable[[str], None] = _say_nothing,
    owner: ProcessIdentity | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[DriverLease]:
    """Be the driver of a run inside the `with` block.

    `on_wait` is told, in one line, why and for how long is waited; from the heartbeat's
    thread `on_lost` hears that another driver took over, and `on_stop` that somebody asks
    this one to stop.

    Raises:
        LeaseHeldError: Another driver is alive.
        StorageError: The store failed.
    """
    who = owner or this_process()
    epoch = _take(store, run, who, on_wait, clock, sleep)
    lease = DriverLease(store, run, epoch, on_lost, on_stop)
    lease.start()
    try:
        yield lease
    finally:
        lease.release()


class DriverLease:
    """A lease that is held: beats from a thread of its own until released."""

    def __init__(
        self,
        store: Store,
        run: str,
        epoch: Epoch,
        on_lost: Callable[[str], None],
        on_stop: Callable[[str], None] = _say_nothing,
    ) -> None:
        self.epoch = epoch
        self.lost = self.asked_to_stop = False
        self._store, self._run = store, run
        self._on_lost, self._on_stop = on_lost, on_stop
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="lease", daemon=True)

    def start(self) -> None:
        """Show the first sign of life, then one every `HEARTBEAT_S`."""
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """Show one sign of life and look for a higher epoch. Failures are left to the next."""
        with suppress(StorageError):
            self._write(ended=False)
            newest = newest_epoch(self._store, self._run)
            if newest and newest.number > self.epoch.number and not self.lost:
                self.lost = True
                self._on_lost(f"another driver took over ({newest.owner.place})")

    def look(self) -> None:
        """See whether somebody asks this driver to stop. Failures are left to the next look."""
        if self.asked_to_stop:
            return
        with suppress(StorageError):
            if self._store.head(layout.stop_key(self._run, self.epoch.number)) is not None:
                self.asked_to_stop = True
                self._on_stop("sdbatch stop was called")

    def release(self) -> None:
        """Stop beating and say so, that the next driver need not wait. Safe to repeat."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(max(min(remaining_s(), JOIN_S), 0.0))
        _here.discard(self.epoch.lease_id)
        with suppress(StorageError):
            self._write(ended=True)

    def _keep_beating(self) -> None:
        beaten = time.monotonic()
        while not self._stop.wait(min(LOOK_S, HEARTBEAT_S)):
            self.look()
            if time.monotonic() - beaten >= HEARTBEAT_S - LOOK_S / 2:
                beaten = time.monotonic()
                self.beat()

    def _write(self, *, ended: bool) -> None:
        self._beats += 1
        body = json.dumps(asdict(Heartbeat(self._beats, _now(), ended)))
        self._store.put(layout.heartbeat_key(self._run, self.epoch.number), body.encode())


def newest_epoch(store: Store, run: str = layout.MAIN) -> Epoch | None:
    """The epoch that drives, or drove last; None when nobody ever did."""
    keys = (info.key for info in store.list(layout.leases_prefix(run)))
    number = max((n for key in keys if (n := layout.parse_epoch(key)) is not None), default=None)
    if number is None:
        return None
    try:
        body = json.loads(store.get(layout.lease_key(run, number)))
        owner = ProcessIdentity(**body["owner"])
        return Epoch(number, body["lease_id"], owner, body["since"])
    except (ObjectNotFoundError, ValueError, KeyError, TypeError):
        # An unreadable epoch still counts: its heartbeat tells whether somebody is there.
        return Epoch(number, "", ProcessIdentity("", "", 0, ""), "")


def read_heartbeat(store: Store, run: str, number: int) -> Heartbeat | None:
    """The last sign of life of an epoch; None when there is none to read."""
    try:
        return Heartbeat(**json.loads(store.get(layout.heartbeat_key(run, number))))
    except (ObjectNotFoundError, ValueError, TypeError):
        return None


def request_stop(store: Store, run: str = layout.MAIN) -> StopAnswer:
    """Ask the driver of the newest epoch to stop; a later driver does not heed it.

    Raises:
        InputError: Nobody ever drove this run.
        StorageError: The store failed.
    """
    epoch = newest_epoch(store, run)
    if epoch is None:
        raise InputError(f"{store.url}: holds no run '{run}', name the output of sdbatch render")
    beat = read_heartbeat(store, run, epoch.number)
    gone = (beat is not None and beat.ended) or surely_gone(epoch, this_process())
    if not gone:
        body = json.dumps({"at": _now(), "by": this_process().place}).encode()
        store.create_once(layout.stop_key(run, epoch.number), body)
    seen_at = beat.at if beat else epoch.since or None
    return StopAnswer(store.url, not gone, epoch.owner.place, seen_at)


def _take(
    store: Store,
    run: str,
    who: ProcessIdentity,
    on_wait: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Epoch:
    while True:
        newest = newest_epoch(store, run)
        if newest is not None:
            _wait_until_free(store, run, newest, who, on_wait, clock, sleep)
        number = 1 if newest is None else newest.number + 1
        epoch = Epoch(number, uuid.uuid4().hex, who, _now())
        body = json.dumps({"protocol": 1, **asdict(epoch)}).encode()
        _here.add(epoch.lease_id)  # before others in this process can see the epoch
        won = False
        try:
            won = store.create_once(layout.lease_key(run, number), body)
        finally:
            if not won:
                _here.discard(epoch.lease_id)
        if won:
            return epoch


def _wait_until_free(
    store: Store,
    run: str,
    epoch: Epoch,
    who: ProcessIdentity,
    on_wait: Callable[[str], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Return when nobody drives under this epoch any more; raise when its beat moves."""
    first = read_heartbeat(store, run, epoch.number)
    if (first is not None and first.ended) or surely_gone(epoch, who):
        return
    on_wait(
        f"waiting up to {STALE_S:.0f} s for a sign of life of the last driver ({epoch.owner.place})"
    )
    deadline = clock() + STALE_S
    while clock() < deadline:
        sleep(POLL_S)
        now = read_heartbeat(store, run, epoch.number)
        if (now is not None and now.ended) or surely_gone(epoch, who):
            return
        if now is not None and now != first:
            raise LeaseHeldError(
                f"{store.url}: another driver is at work ({epoch.owner.place}, since "
                f"{epoch.since}): wait for it or stop it"
            )


def surely_gone(epoch: Epoch, who: ProcessIdentity) -> bool:
    """Whether `who` knows that the driver of an epoch runs no more, whatever its last beat."""
    if epoch.owner == who:
        return epoch.lease_id not in _here
    return is_gone(epoch.owner, seen_from=who)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

"""What every fetch of a model has around it: a lock, a look at the disk, signs of progress.

One process of a machine fetches a model; the others wait and find it there. Progress is read
from the folder that fills, whoever fills it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from sdbatch.errors import ModelUnreachableError

LOOK_EVERY_S = 0.25
STOPPING_S = 15.0
SPARE_BYTES = 64 * 2**20
"""A disk that a fetch would fill to the last byte has no room for it."""


def _no_progress(done: int, total: int) -> None:
    """Nobody looks."""


def _no_wait() -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who is told how a fetch goes.

    Attributes:
        progress: Called several times a second with the bytes that are here and those of all.
        waiting: Called once when another process of this machine fetches the same.
    """

    progress: Callable[[int, int], None] = _no_progress
    waiting: Callable[[], None] = _no_wait


@contextmanager
def one_at_a_time(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock of this machine, waiting for it if need be.

    Raises:
        ModelUnreachableError: The cache cannot be written to.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock)
        try:
            held.acquire(timeout=0)
        except Timeout:
            waiting()
            held.acquire()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelUnreachableError(
            f"{lock.parent}: {reason}: set HF_HOME to a folder that can be written to"
        ) from error
    try:
        yield
    finally:
        held.release()


def demand_room(name: str, needed_bytes: int, folder: Path) -> None:
    """Find out before a transfer that the disk would not hold it.

    Raises:
        ModelUnreachableError: It would not.
    """
    free = free_bytes(folder)
    wanted = needed_bytes + min(SPARE_BYTES, needed_bytes)
    if free is not None and free < wanted:
        raise ModelUnreachableError(
            f"model {name}: needs {as_bytes(needed_bytes)} in {folder}, {as_bytes(free)} are free: "
            "make room there, or set HF_HOME to a folder on a larger disk"
        )


def free_bytes(folder: Path) -> int | None:
    """Room on the disk of a folder that need not exist yet; None where nobody knows."""
    for place in (folder, *folder.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return None


@contextmanager
def watched(watch: Watch, total: int, arrived: Callable[[], int]) -> Iterator[None]:
    """Tell of what has arrived while the block runs.

    Args:
        watch: Who is told.
        total: Bytes there will be.
        arrived: Bytes that are there.
    """
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            with suppress(OSError):
                watch.progress(min(arrived(), total), total)

    watch.progress(min(arrived(), total), total)
    thread = threading.Thread(target=look, name="watch-fetch", daemon=True)
    thread.start()
    try:
        yield
        over.set()
        thread.join()
        watch.progress(total, total)
    finally:
        over.set()


def interruptible(call: Callable[[], object], stopping: threading.Event) -> None:
    """Run a call that waits for threads of its own, so that Ctrl-C need not wait for them.

    Args:
        call: What to run.
        stopping: Set when it is to end early.

    Raises:
        Exception: Whatever the call raises.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            failures.append(error)

    thread = threading.Thread(target=run, name="fetch", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(LOOK_EVERY_S)
    except BaseException:
        stopping.set()
        thread.join(STOPPING_S)
        raise
    if failures:
        raise failures[0]


def as_bytes(number: int) -> str:
    """Bytes for people: `4.3 GB`."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} bytes"

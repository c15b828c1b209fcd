"""SIGINT and SIGTERM (on Windows Ctrl-Break too) as a wish to end; the second one ends at once.

At once means: without a word to workers or store. That is safe, for only commit records
count, and it says by its exit code (75) that the same command resumes. A store that hangs
holds nobody: all that is left to do shares one limit, and after that the process leaves.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sdbatch.engine.driver_loop import Stop
from sdbatch.storage.retrying import end_by

SHOW_CURSOR = b"\x1b[?25h"
STDERR, STOPPED = 2, 75
LEEWAY_S = 10.0  # after a drain: what the driver itself still asks of the store
LAST_RESORT_S = 15.0  # after a drain: whoever is still there hangs
LOOK_S = 0.25


class Ending:
    """How long an end that a signal asked for may take.

    Args:
        drain_s: The part of it that workers may take.
    """

    def __init__(self, drain_s: float) -> None:
        self._drain_s = drain_s
        self._asked_at: float | None = None

    def asked(self) -> None:
        """A signal came; from now on the time counts. No lock: a signal handler calls."""
        self._asked_at = time.monotonic()
        self.allow(self._drain_s)

    def allow(self, drain_s: float) -> None:
        """Change what a drain may take, counted from the signal."""
        self._drain_s = drain_s
        if self._asked_at is not None:
            end_by(self._asked_at + drain_s + LEEWAY_S)

    def watch(self, done: threading.Event) -> None:
        """Leave when all time is over, whatever the other threads do."""
        while not done.wait(LOOK_S):
            limit_s = self._drain_s + LAST_RESORT_S
            if self._asked_at is not None and time.monotonic() - self._asked_at >= limit_s:
                _leave(f"not ended {limit_s:.0f} s after the signal: leaving; run it again\n")


def wanted_signals() -> tuple[signal.Signals, ...]:
    """What asks for an end here: Windows has SIGBREAK, and sends SIGTERM to nobody."""
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    return tuple(signal.Signals[name] for name in names if hasattr(signal, name))


@contextmanager
def stop_on_signals(
    stop: Stop, note: Callable[[str], None], drain_s: float = 120.0
) -> Iterator[Ending]:
    """Set `stop` when a signal comes, inside the block.

    Only the main thread may set handlers: elsewhere (a notebook's thread, a server) the
    caller's own stay in force. They are restored at the end.
    """
    ending = Ending(drain_s)
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    wanted = wanted_signals()
    before: dict[signal.Signals, Any] = {}
    done = threading.Event()
    threading.Thread(target=ending.watch, args=(done,), name="last-resort", daemon=True).start()

    def handle(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.is_set():
            _leave("")
        stop.request(f"{name} received")
        ending.asked()
        note(f"{name}: finishing what is in flight; once more ends at once")

    for number in wanted:
        before[number] = signal.signal(number, handle)
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        done.set()
        end_by(float("inf"))


def _leave(line: str) -> None:
    """End the process at once, resumable."""
    # Raw writes: a signal may have interrupted one that holds a lock.
    if os.isatty(STDERR):
        os.write(STDERR, SHOW_CURSOR)  # a progress bar hides it, and is not asked again
    os.write(STDERR, line.encode())
    os._exit(STOPPED)

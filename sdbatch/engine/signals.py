"""SIGINT and SIGTERM as a wish to end in order; the second one ends at once.

At once means: without a word to workers or store. That is safe, for only commit records
count, and it says by its exit code (75) that the same command resumes.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sdbatch.engine.driver_loop import Stop

SHOW_CURSOR = b"\x1b[?25h"
STDERR, STOPPED = 2, 75


@contextmanager
def stop_on_signals(stop: Stop, note: Callable[[str], None]) -> Iterator[None]:
    """Set `stop` when a signal comes, inside the block.

    Only the main thread may set handlers: elsewhere (a notebook's thread, a server) the
    caller's own stay in force. They are restored at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before: dict[signal.Signals, Any] = {}

    def handle(number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.is_set():
            # Raw writes: this very signal may have interrupted one that holds a lock.
            if os.isatty(STDERR):
                os.write(STDERR, SHOW_CURSOR)  # a progress bar hides it, and is not asked again
            os._exit(STOPPED)
        stop.request(f"{name} received")
        note(f"{name}: finishing what is in flight; once more ends at once")

    for number in wanted:
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""A few threads for the tasks of a worker, none of which keeps the process from ending.

Those of `concurrent.futures` are waited for when the interpreter ends, for as long as a
store hangs. What these have not finished by then is drawn again: only commits count.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def busy_threads(most: int) -> int:
    """Threads for tasks that each keep a core busy: half of the cores, for drawing has the rest.

    Two at least, so that one slow task does not hold up all others.

    Args:
        most: Never more than these.
    """
    allowed = getattr(os, "sched_getaffinity", None)  # of Linux alone
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(most, max(2, cores // 2))


class DaemonPool:
    """Runs tasks in the order of their coming; a task sees to its own errors."""

    def __init__(self, threads: int, name: str) -> None:
        self._tasks: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None]
        self._tasks = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)
        ]
        self._lock = threading.Lock()
        self._begun = self._closed = False

    def submit(self, task: Callable[..., Any], *args: Any) -> None:
        """Have a task done.

        Raises:
            RuntimeError: The pool has closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool has closed")
            if not self._begun:
                self._begun = True
                for thread in self._threads:
                    thread.start()
            self._tasks.put((task, args))

    def shutdown(self) -> None:
        """Take no more tasks and wait until all are done. Safe to repeat."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._tasks.put(None)
        for thread in self._threads if self._begun else []:
            thread.join()

    def _work(self) -> None:
        while (order := self._tasks.get()) is not None:
            task, args = order
            with suppress(Exception):
                task(*args)

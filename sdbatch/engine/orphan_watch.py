"""Ends what would outlive a killed driver or worker, from a process of its own.

The kernel ends Ray's main processes together with the driver, but their agents hold on
for another minute and the session folder stays; a killed worker leaves its spools. The
killed can do nothing about it, so a small process waits on a pipe: an end of file without a
farewell means that its writer is dead. Run as a script, this file needs nothing but the
standard library.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FAREWELL = "over"
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process by any number
OWN_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # of Windows
TRIES, PAUSE_S = 20, 0.1
FAREWELL_S = 10.0  # nobody waits longer for a watcher that has nothing left to do


@contextlib.contextmanager
def orphan_watch(folder: Path) -> Iterator[Callable[[Iterable[int]], None]]:
    """Watch over this process inside the block.

    Yields:
        A function that takes the process ids to end, should this process be killed;
        `folder` is deleted then too. After the block nothing happens any more.
    """
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal is not for it
        creationflags=OWN_GROUP,
        text=True,
    )
    if watcher.stdin is None:
        raise RuntimeError("a process started with a pipe has none")
    pipe = watcher.stdin

    def tell(line: str) -> None:
        with contextlib.suppress(OSError):  # the watcher was killed: nothing to do about it
            pipe.write(line + "\n")
            pipe.flush()

    try:
        yield lambda pids: tell(" ".join(map(str, pids)))
    finally:
        tell(FAREWELL)
        with contextlib.suppress(OSError):
            pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            watcher.wait(FAREWELL_S)


def wait_and_clear(lines: Iterable[str], folder: Path) -> None:
    """Read until the writer is gone; clear up after it unless it said farewell."""
    pids: list[int] = []
    for line in lines:
        if line.strip() == FAREWELL:
            return
        pids = [int(pid) for pid in line.split()]
    for pid in set(pids) - {os.getpid()}:
        with contextlib.suppress(OSError):
            os.kill(pid, KILL)
    for _ in range(TRIES):  # the dying may still write
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    wait_and_clear(sys.stdin, Path(sys.argv[1]))

"""Which process on which machine: enough to say for sure that it is gone.

A pid alone proves little: it is reused, it means another process in another container,
and a killed child stays visible until its parent looks. So identity is host, boot and pid
namespace, pid, and the moment the process began. Where any of it is unknown nobody is
declared gone, and the watcher waits instead.
"""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PROC = Path("/proc/self/stat")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process.

    Attributes:
        boot_id: Of the running system and, in containers, of the pid namespace.
        started: When the process began, in the kernel's ticks, without /proc in seconds since
            1970; empty when unknown.
    """

    host: str
    boot_id: str
    pid: int
    started: str

    @property
    def place(self) -> str:
        """How messages call it."""
        return f"pid {self.pid} on {self.host}" if self.host else "unknown process"


def this_process() -> ProcessIdentity:
    """The running process."""
    pid = os.getpid()
    return ProcessIdentity(socket.gethostname(), _boot_id(), pid, _started(pid) or "")


def is_gone(process: ProcessIdentity, seen_from: ProcessIdentity) -> bool:
    """Whether it surely runs no more. False when it lives elsewhere or that is unknown."""
    same_system = (process.host, process.boot_id) == (seen_from.host, seen_from.boot_id)
    if not same_system or not process.boot_id or process.pid <= 0:
        return False
    if not psutil.pid_exists(process.pid):  # never by a signal: on Windows number 0 is Ctrl-C
        return True
    started = _started(process.pid)
    if started is None:
        return PROC.exists()  # it vanished since, or is a zombie
    return bool(process.started) and started != process.started


def _started(pid: int) -> str | None:
    """Start time of a live process; None when it is gone, a zombie, or may not be asked."""
    if not PROC.exists():
        with suppress(psutil.Error):
            return f"{psutil.Process(pid).create_time():.2f}"
        return None
    with suppress(OSError, IndexError):
        # The name in parentheses may hold anything, so fields are counted after it.
        fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    return None


def _boot_id() -> str:
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return f"node-{uuid.getnode():012x}"  # no /proc: the network card stands for the machine

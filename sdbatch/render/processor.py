"""What the processor of this machine is called, for people who compare two runs."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


@cache
def processor_name() -> str:
    """The maker's name of the CPU, or its architecture where nobody says more."""
    try:
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, name = line.partition(":")
            if key.strip() == "model name" and name.strip():
                return name.strip()
    except OSError:  # no such file outside Linux
        pass
    return platform.processor() or platform.machine()

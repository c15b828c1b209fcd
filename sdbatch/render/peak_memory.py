"""How much memory drawing takes: what the device counts, or how far this process grew.

On a GPU torch counts every allocation. On a CPU nobody does, so a thread looks at the
process every few milliseconds; what it held before the watch began does not count.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil
import torch

LOOK_EVERY_S = 0.02


class MemoryWatch:
    """Watches between entering and leaving; then `peak_bytes` is the most that was seen."""

    def __init__(self, device: torch.device) -> None:
        self.peak_bytes = 0
        self._device = device
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._before = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        self._before = psutil.Process().memory_info().rss
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is None:
            self.peak_bytes = int(torch.cuda.max_memory_allocated(self._device))
            return
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        process = psutil.Process()
        while True:
            self.peak_bytes = max(self.peak_bytes, process.memory_info().rss - self._before)
            if self._over.wait(LOOK_EVERY_S):
                return

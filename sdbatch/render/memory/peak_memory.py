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

from sdbatch.render.accelerators import counts_peaks, held_bytes, peak_bytes, reset_peak

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
        if counts_peaks(self._device):
            reset_peak(self._device)
            return self
        self._before = self._held()
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
            self.peak_bytes = peak_bytes(self._device)
            return
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._held() - self._before)
            if self._over.wait(LOOK_EVERY_S):
                return

    def _held(self) -> int:
        """What Metal has handed out, whose peaks nobody counts; elsewhere the process's size."""
        held = held_bytes(self._device)
        return held[1] if held else int(psutil.Process().memory_info().rss)

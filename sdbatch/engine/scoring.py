"""Between the renderer and the encoders: pictures are judged in passing, on their own thread.

The renderer never waits for a scorer: pictures queue up here, and how many may do so its
caller bounds. What comes together is judged together, and a batch that is not full waits a
moment for more. Without scorers everything is handed on as it comes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from sdbatch.engine.commit_shard import Ledger
from sdbatch.render.judges.scorers import Panel, prompt_of
from sdbatch.results import RenderedImage, RowFailure

LINGER_S = 0.3
"""How long a batch that is not full waits for the next picture."""

Result = RenderedImage | RowFailure


class Scoring:
    """Scores pictures and hands them on.

    Args:
        panel: None hands everything on at once.
        onward: Gets every result, from any thread.
        ledger: Told of the time, as phase `score`.
        on_fault: Told of a picture that a scorer failed on: (result, why).
        on_fatal: Told, once, that the device is beyond use; what waits is dropped.
    """

    def __init__(
        self,
        panel: Panel | None,
        onward: Callable[[Result], None],
        ledger: Ledger,
        on_fault: Callable[[Result, str], None],
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self._panel, self._onward, self._ledger = panel, onward, ledger
        self._on_fault, self._on_fatal = on_fault, on_fatal
        self._waiting: queue.SimpleQueue[RenderedImage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="score", daemon=True)
        self._begun = self._dropping = False
        self._lock = threading.Lock()

    def put(self, result: Result) -> None:
        """Take a result; failures have nothing to be judged."""
        if self._panel is None or isinstance(result, RowFailure):
            self._onward(result)
            return
        with self._lock:
            if not self._begun:
                self._begun = True
                self._thread.start()
        self._waiting.put(result)

    def close(self, drop: bool = False) -> None:
        """Hand on what still waits, or drop it; then nothing comes any more."""
        self._dropping = self._dropping or drop
        self._waiting.put(None)
        if self._begun and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._next_batch()
            if batch and not self._dropping:
                try:
                    self._judge(batch)
                except Exception as error:  # noqa: BLE001  # the device failed: not a row's fault
                    self._dropping = True
                    self._on_fatal(error)

    def _next_batch(self) -> tuple[list[RenderedImage], bool]:
        """Up to a full batch, and whether there may be more."""
        assert self._panel is not None
        batch: list[RenderedImage] = []
        until = None
        while len(batch) < self._panel.batch_size:
            try:
                left = None if until is None else max(until - time.monotonic(), 0)
                result = self._waiting.get(timeout=left)
            except queue.Empty:
                break
            if result is None:
                return batch, False
            batch.append(result)
            until = time.monotonic() + LINGER_S
        return batch, True

    def _judge(self, batch: list[RenderedImage]) -> None:
        assert self._panel is not None
        with self._ledger.phase("score"):
            judged = self._panel.judge(
                [image.pixels for image in batch], [prompt_of(image.row) for image in batch]
            )
        for image, values, fault in zip(batch, judged.values, judged.faults, strict=True):
            if fault:
                self._on_fault(image, fault)
            self._onward(replace(image, scores=values))

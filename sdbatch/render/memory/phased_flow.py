"""One call of `render` where only one room's model is on the device at a time.

Rows go through the rooms a window at a time: their prompts are encoded and kept on the host,
then all are denoised with full lanes, their latents waiting on the host, then all are decoded.
So rooms change once a window. A window is bounded by what waits on the host, and by time: as
long as changing rooms costs little of it, and no longer, for its pictures come at its end. One
that lasts too long all the same is decoded in between, and a renderer that is to leave decodes
what has been denoised and lets go of the rest. A row's pixels know nothing of windows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sdbatch.records import ImageId, RenderRow
from sdbatch.render.denoiser import Denoised
from sdbatch.render.flow import IDLE_S, Flow
from sdbatch.render.memory.memory_rooms import SWAP, Room
from sdbatch.render.waiting import Kind, size_of
from sdbatch.results import RowFailure

if TYPE_CHECKING:
    from sdbatch.render.renderer import LaneRenderer

WINDOW_BYTES = 2 * 2**30
"""What a window's conditioning and latents may take on the host."""

FIRST_ROWS = 16
"""Rows of the first window, by which the next ones are measured."""

WINDOW_S, MAX_WINDOW_S = 60.0, 600.0
SWAP_SHARE = 0.02
"""A window lasts at least the first, at most the second, and between them so long that
changing rooms takes no more than this share of it."""


class PhasedFlow(Flow):
    """State of one `render` call that goes through the rooms window by window."""

    def __init__(self, renderer: LaneRenderer, rows: Iterable[RenderRow | None]) -> None:
        super().__init__(renderer, rows)
        self._window: dict[Kind, deque[Any]] = {}
        self._max_rows = FIRST_ROWS
        self._opened: tuple[float, float, int] | None = None
        self._through_at: dict[ImageId, float] = {}

    @property
    def _can_run(self) -> bool:
        return bool(self._busy or self._again or self._window or self._denoised)

    @property
    def _under_way(self) -> bool:
        return bool(self._can_run or self._decoded)

    @property
    def _in_flight(self) -> bool:
        return bool(self._under_way or self._waiting)

    def _let_go(self) -> None:
        super()._let_go()
        self._window.clear()

    def _advance(self) -> None:
        """One pass of the window, or one chunk of its pictures."""
        if not self._under_way:
            self._open_window()
        self._admit()
        if self._busy:
            self._run_pass()
        elif self._denoised:
            self._decode()

    # -- the window ----------------------------------------------------------------------

    def _open_window(self) -> None:
        """Encode the prompts of as many rows as may wait together."""
        self._measure()
        self._waiting.pull()
        if not self._waiting:
            if not self._waiting.exhausted:
                time.sleep(IDLE_S)
            return
        started, swapped = time.monotonic(), self._swapped_s
        rows = held_bytes = 0
        seen: set[int] = set()
        self._renderer.residence.enter(Room.TEXT)
        leaving = self._renderer.leaving
        while rows < self._max_rows and held_bytes < WINDOW_BYTES and not leaving.is_set():
            self._waiting.pull()
            kind = self._waiting.next_kind
            row = None if kind is None else self._waiting.take(kind)
            if row is None or kind is None:
                break
            rows += 1
            item = self._prepare(row)
            if isinstance(item, RowFailure):
                self._results.append(item)
                continue
            held_bytes += self._renderer.latent_bytes(row) + _new_bytes(item, seen)
            self._window.setdefault(kind, deque()).append(item)
        self._opened = (started, swapped, rows)

    def _measure(self) -> None:
        """How many rows the next window should have, by how long the last one took."""
        if self._opened is None:
            return
        (started, swapped, rows), self._opened = self._opened, None
        if not rows:
            return
        swaps_s = self._swapped_s - swapped
        row_s = max(time.monotonic() - started - swaps_s, 1e-6) / rows
        window_s = min(max(WINDOW_S, swaps_s / SWAP_SHARE), MAX_WINDOW_S)
        self._max_rows = max(1, int(window_s / row_s))

    @property
    def _late(self) -> bool:
        """Whether the window has lasted so long that its pictures come before its other rows."""
        if self._opened is None:
            return False
        started, swapped, _ = self._opened
        return time.monotonic() - started - (self._swapped_s - swapped) > MAX_WINDOW_S

    def _go_on(self) -> None:
        """What is left of a window that was decoded in between becomes a window."""
        left = sum(map(len, self._window.values()))
        if self._opened is not None:
            started, swapped, rows = self._opened
            self._opened = (started, swapped, rows - left)
        self._measure()
        self._opened = (time.monotonic(), self._swapped_s, left)

    @property
    def _swapped_s(self) -> float:
        return self._counters.phase_seconds.get(SWAP, 0.0)

    # -- lanes ---------------------------------------------------------------------------

    def _admit(self) -> None:
        """Fill free lanes: rows that start again first, then the window's, kind by kind."""
        if self._again is not None:
            self._admit_again(self._again)
        if self._again is not None:
            return
        if self._window and self._late:
            if self._busy or self._denoised:
                return
            self._go_on()
        while self._window:
            if not self._busy:
                self._kind = next(iter(self._window))
            if self._kind is None or self._kind not in self._window:
                return  # the running kind ends before the next one begins
            num_lanes = self._renderer.lanes_for(self._kind[0])
            if self._full(num_lanes):
                return
            rows = self._window[self._kind]
            self._enter(rows.popleft(), num_lanes)
            if not rows:
                del self._window[self._kind]

    def _run_pass(self) -> None:
        self._renderer.residence.enter(Room.NOISE)
        before = len(self._denoised)
        super()._run_pass()
        keep = self._renderer.residence.keep
        for index in range(before, len(self._denoised)):
            done = self._denoised[index]
            self._denoised[index] = replace(done, latents=keep(done.latents))
            self._through_at[done.item.row.image_id] = time.monotonic()

    # -- pixels --------------------------------------------------------------------------

    def _decode(self) -> None:
        """Decode one chunk, once the whole window has been denoised."""
        self._lanes = self._made_for = None  # what they hold on the device is room for a decode
        size = size_of(self._denoised[0].item.row)
        chunk = [done for done in self._denoised if size_of(done.item.row) == size]
        chunk = chunk[: self._renderer.image_decoder.chunk_size(chunk[0].latents)]
        taken = set(map(id, chunk))
        self._denoised = [done for done in self._denoised if id(done) not in taken]
        self._renderer.residence.enter(Room.PICTURE)
        self._decode_chunk([self._without_waiting(done) for done in chunk])

    def _without_waiting(self, done: Denoised) -> Denoised:
        """As if it had not waited for its window: who drains asks how long a picture takes."""
        now = time.monotonic()
        waited_s = now - self._through_at.pop(done.item.row.image_id, now)
        return replace(done, started=done.started + waited_s)


def _new_bytes(item: Any, seen: set[int]) -> int:
    """What a prepared row's conditioning takes beside that of rows before it."""
    total = 0
    for tensor in (item.conditional, item.unconditional):
        if isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            total += tensor.nbytes
    return total

"""One call of `render`: what waits, what is in lanes, what becomes pixels.

A tick pulls rows, fills lanes, runs one pass, and decodes when a chunk of finished rows
has gathered or nothing else can run. A pass that fails takes no row with it but the
culprit: the rows in flight start again alone, at the same L, until it is found. When
memory runs out they start again together at half of L.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sdbatch.errors import DeviceMemoryError, RenderError
from sdbatch.records import RenderRow
from sdbatch.render.denoiser import Denoised, DrawnRow
from sdbatch.render.device import (
    PASS_ERRORS,
    failure_of,
    free_memory,
    is_broken,
    is_out_of_memory,
)
from sdbatch.render.flawed import flawed
from sdbatch.render.image_decoder import DecodedChunk
from sdbatch.render.waiting import Kind, Waiting, size_of
from sdbatch.results import RenderedImage, RowFailure

if TYPE_CHECKING:
    from sdbatch.render.renderer import LaneRenderer

Result = RenderedImage | RowFailure

DECODE_AFTER_PASSES = 64
"""A finished row waits no longer than this for others to be decoded with."""

CHUNKS_ON_THE_WAY = 2
IDLE_S = 0.002
"""Rest between questions to a feed that says None although nothing is in flight."""


class Room(Protocol):
    """Rows in flight and the passes that move them: `denoiser.Lanes` or `grouped.Group`."""

    num_lanes: int
    real_lanes: int

    @property
    def busy_lanes(self) -> int:
        """Lanes that the rows in flight take in every step."""
        ...

    @property
    def free(self) -> bool:
        """Whether another row may enter."""
        ...

    @property
    def rows(self) -> int:
        """Rows in flight."""
        ...

    @property
    def first_row(self) -> RenderRow:
        """A row in flight."""
        ...

    def admit(self, item: Any) -> None:
        """Put a row in, of the kind the room was made for."""
        ...

    def run_pass(self) -> list[Denoised]:
        """One call of the model; gives the rows that took their last step."""
        ...

    def evict(self) -> Sequence[DrawnRow]:
        """Take every row out, as if it had never been there."""
        ...


@dataclass(slots=True)
class _Again:
    """Rows that start again after a pass failed; new ones wait until they are through.

    Attributes:
        num_lanes: L of their passes.
        at_once: Rows that may be in flight together.
    """

    rows: deque[DrawnRow]
    num_lanes: int
    at_once: int


class Flow:
    """State of one `render` call; `renderer.py` calls `tick` until nothing is unfinished."""

    def __init__(self, renderer: LaneRenderer, rows: Iterable[RenderRow | None]) -> None:
        self._renderer = renderer
        self._counters = renderer.counters
        self._waiting = Waiting(rows, kind_of=renderer.kind_of)
        self._kind: Kind | None = None
        self._made_for: tuple[Kind | None, int] | None = None
        self._lanes: Room | None = None
        self._again: _Again | None = None
        self._denoised: list[Denoised] = []
        self._waited_passes = 0
        self._decoded: deque[tuple[list[Denoised], DecodedChunk]] = deque()
        self._results: list[Result] = []

    @property
    def unfinished(self) -> bool:
        """Whether a row is still owed, or more may come."""
        return not self._waiting.exhausted or self._in_flight

    @property
    def _in_flight(self) -> bool:
        return bool(self._busy or self._again or self._waiting or self._denoised or self._decoded)

    @property
    def _busy(self) -> bool:
        return self._lanes is not None and self._lanes.busy_lanes > 0

    @property
    def _can_run(self) -> bool:
        return bool(self._busy or self._again or self._waiting)

    def tick(self) -> list[Result]:
        """Move everything one pass on; gives what came out."""
        if self._renderer.leaving.is_set():
            self._let_go()
        self._advance()
        self._collect()
        results, self._results = self._results, []
        return results

    def _let_go(self) -> None:
        """Forget the rows that no pass has begun, or that would begin again."""
        self._waiting.close()
        if self._again is not None:
            self._again.rows.clear()

    def _advance(self) -> None:
        self._waiting.pull()
        if not self._in_flight and not self._waiting.exhausted:
            time.sleep(IDLE_S)
        self._admit()
        if self._busy:
            self._run_pass()
        self._decode()

    # -- lanes ---------------------------------------------------------------------------

    def _admit(self) -> None:
        """Fill free lanes: rows that start again first, then new ones of the running kind."""
        if self._again is not None:
            self._admit_again(self._again)
        if self._again is not None:
            return
        idle = not self._busy
        if idle:
            self._kind = self._waiting.next_kind
        while self._kind is not None and not self._full(self._renderer.lanes_for(self._kind[0])):
            self._waiting.pull()
            row = self._waiting.take(self._kind, wait=idle)
            if row is None:
                return
            prepared = self._prepare(row)
            if isinstance(prepared, RowFailure):
                self._results.append(prepared)
            else:
                self._enter(prepared, self._renderer.lanes_for(self._kind[0]))

    def _prepare(self, row: RenderRow) -> Any:
        """A row ready for lanes, or its failure."""
        with self._timed("text_encode"):
            return self._renderer.prepare(row, self._waiting.rows(row.prompt_syntax))

    def _full(self, num_lanes: int) -> bool:
        if self._busy and self._lanes is not None:
            return self._lanes.num_lanes != num_lanes or not self._lanes.free
        return False

    def _admit_again(self, again: _Again) -> None:
        while again.rows and self._rows_in_lanes < again.at_once:
            if self._full(again.num_lanes):
                return
            self._enter(again.rows.popleft(), again.num_lanes)
        if not again.rows and not self._busy:
            self._again = None

    @property
    def _rows_in_lanes(self) -> int:
        return self._lanes.rows if self._lanes is not None else 0

    def _enter(self, item: Any, num_lanes: int) -> None:
        wanted = (self._renderer.kind_of(item.row, wait=True), num_lanes)
        if self._lanes is None or self._made_for != wanted:
            self._lanes, self._made_for = self._renderer.make_lanes(item, num_lanes), wanted
        self._lanes.admit(item)

    # -- passes --------------------------------------------------------------------------

    def _run_pass(self) -> None:
        lanes = self._lanes
        if lanes is None:
            return
        failure: RowFailure | None = None
        memory = False
        try:
            with self._timed("denoise"):
                self._denoised += lanes.run_pass()
        except PASS_ERRORS as error:
            if is_broken(error):
                raise RenderError(f"the device failed: {error}") from error
            memory = is_out_of_memory(error)
            failure = failure_of(lanes.first_row, error)
        if failure is None:
            self._counters.lane_steps += lanes.real_lanes
            self._counters.lane_slots += lanes.num_lanes
        elif memory and self._renderer.strict_pixels:
            self._fail_for_memory(lanes)
        elif memory:
            self._start_again_smaller(lanes)
        else:
            self._start_again_alone(lanes, failure)

    def _start_again_smaller(self, lanes: Room) -> None:
        """Out of memory: the rows in flight start again at half of L, once per renderer."""
        self._count_out_of_memory(lanes.num_lanes, last=lanes.num_lanes == 1)
        rows = deque(lanes.evict())
        if self._again is not None:
            rows.extend(self._again.rows)
        self._lanes = None
        free_memory()
        half = lanes.num_lanes // 2
        self._again = _Again(rows, half, half)

    def _fail_for_memory(self, lanes: Room) -> None:
        """Out of memory: the rows in flight fail, since other lanes would give other pixels."""
        self._count_out_of_memory(lanes.num_lanes, last=False)
        reason = (
            f"out of memory with {lanes.num_lanes} lanes, and render.strict_pixels forbids less"
        )
        name = DeviceMemoryError.__name__
        self._results += [RowFailure(item.row, name, reason) for item in lanes.evict()]
        self._lanes = None
        free_memory()

    def _count_out_of_memory(self, num_lanes: int, last: bool) -> None:
        self._renderer.out_of_memory += 1
        if self._renderer.out_of_memory > 1 or last:
            raise DeviceMemoryError(
                f"out of memory with {num_lanes} lanes: use a smaller --batch-size"
            )

    def _start_again_alone(self, lanes: Room, failure: RowFailure) -> None:
        """A pass failed: its only row is to blame, or each row goes alone until one is."""
        rows = lanes.evict()
        rest = list(self._again.rows) if self._again is not None else []
        if len(rows) == 1:
            self._results.append(failure)
            self._again = _Again(deque(rest), lanes.num_lanes, lanes.num_lanes) if rest else None
        else:
            self._again = _Again(deque([*rows, *rest]), lanes.num_lanes, 1)

    # -- pixels --------------------------------------------------------------------------

    def _decode(self) -> None:
        """Decode full chunks, and the rest when nothing else can run or it has waited long."""
        self._waited_passes = self._waited_passes + 1 if self._denoised else 0
        while self._denoised:
            size = size_of(self._denoised[0].item.row)
            chunk = [done for done in self._denoised if size_of(done.item.row) == size]
            full = self._renderer.image_decoder.chunk_size(chunk[0].latents)
            late = self._waited_passes > DECODE_AFTER_PASSES
            if len(chunk) < full and self._can_run and not late:
                return
            chunk = chunk[:full]
            self._denoised = [done for done in self._denoised if done not in chunk]
            self._decode_chunk(chunk)
            self._waited_passes = 0

    def _decode_chunk(self, chunk: list[Denoised]) -> None:
        """Send a chunk on its way; after a failure each of its rows alone.

        Out of memory is no row's fault: the same chunk goes once more, with all that torch
        kept for later given back.
        """
        failure: RowFailure | None = None
        memory = False
        try:
            with self._timed("decode"):
                decoded = self._renderer.image_decoder.decode([done.latents for done in chunk])
            self._decoded.append((chunk, decoded))
        except PASS_ERRORS as error:
            if is_broken(error):
                raise RenderError(f"the device failed: {error}") from error
            memory = is_out_of_memory(error)
            failure = failure_of(chunk[0].item.row, error)
        if failure is None:
            return
        free_memory()
        if memory:
            self._count_out_of_memory(chunk[0].num_lanes, last=False)
            self._decode_chunk(chunk)
            return
        if len(chunk) == 1:
            self._results.append(failure)
            return
        for done in chunk:
            self._decode_chunk([done])

    def _collect(self) -> None:
        """Hand out pictures that have arrived, waiting for them only when little else runs."""
        while self._decoded:
            chunk, decoded = self._decoded[0]
            crowded = len(self._decoded) > CHUNKS_ON_THE_WAY
            if not (decoded.ready() or crowded or not self._can_run):
                return
            self._decoded.popleft()
            with self._timed("decode"):
                pixels = decoded.pixels()
            for done, picture in zip(chunk, pixels, strict=True):
                self._results.append(self._result(done, picture))

    def _result(self, done: Denoised, picture: NDArray[np.uint8] | None) -> Result:
        item = done.item
        if picture is None or not picture.any():
            return flawed(item.row, picture)
        self._counters.row_steps += item.steps
        latency_ms = 1000 * (time.monotonic() - done.started)
        return RenderedImage(item.row, picture, done.num_lanes, item.truncated, latency_ms)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._counters.phase_seconds[phase] += time.perf_counter() - started

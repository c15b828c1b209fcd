"""Pictures from a whole pipeline of diffusers: rows of equal settings share its calls.

The second implementation of `protocol.Renderer`, for models whose parts fill no rooms. Every
call draws a fixed number of rows: a short group is filled up with its first row, so that a
row's pixels depend on nobody beside it. Pipelines where they would (prompts padded to the
longest among them, say) are found by a trial before the first row and draw one at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdbatch.errors import DeviceMemoryError, InputError, RenderError
from sdbatch.model_specs import RenderEnv
from sdbatch.records import ANY_SIZE, RenderRow, size_name
from sdbatch.render.device import (
    PASS_ERRORS,
    failure_of,
    free_memory,
    is_broken,
    is_out_of_memory,
    use_threads,
)
from sdbatch.render.flawed import flawed
from sdbatch.render.pipelines.pipeline_call import PipelineCall
from sdbatch.render.pipelines.pipeline_groups import Groups
from sdbatch.render.pipelines.pipeline_probe import why_coupled
from sdbatch.render.protocol import Counters
from sdbatch.render.waiting import Size
from sdbatch.results import RenderedImage, RowFailure

IDLE_S = 0.002
ALONE = 1
Result = RenderedImage | RowFailure


class PipelineRenderer:
    """A loaded pipeline that draws rows.

    Args:
        env: What it runs on.
        call: The pipeline.
        usual: A row as the model would have it, for trials.
        choose_lanes: L for a picture size that has none yet.
        lanes: L per picture size, where it is settled; a guided row takes two.
        cpu_threads: Threads of torch while it computes.
        strict_pixels: Fail rows that run out of memory, rather than draw them with fewer lanes.
        notes: What a person should hear of the device.
    """

    def __init__(
        self,
        env: RenderEnv,
        call: PipelineCall,
        usual: RenderRow,
        choose_lanes: Callable[[Size], int],
        lanes: Mapping[str, int],
        cpu_threads: int,
        strict_pixels: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.env = env
        self.counters = Counters()
        self.notes = notes
        self.lanes: Mapping[str, int] = {}
        self.out_of_memory = 0
        """Times the device ran out of memory; the second one is the last."""
        self._leaving = threading.Event()
        self._call, self._usual = call, usual
        self._choose_lanes, self._asked = choose_lanes, lanes
        self._tried: dict[tuple[int, int, bool, bool], bool] = {}
        self._cpu_threads = cpu_threads
        self._strict_pixels = strict_pixels

    def lanes_for(self, size: Size) -> int:
        """L for a picture size; settled, and tried, the first time it is asked for.

        Raises:
            DeviceMemoryError: Not even one row fits.
        """
        name = size_name(*size)
        if name not in self.lanes:
            use_threads(self._cpu_threads)
            asked = self._asked.get(name) or self._asked.get(ANY_SIZE)
            chosen = asked or self._choose_lanes(size)
            usual = replace(self._usual, width_px=size[0], height_px=size[1])
            apart = self._apart(usual, places_of(usual, chosen))
            self.lanes = {**self.lanes, name: chosen if apart else ALONE}
        return self.lanes[name]

    def _lanes_of(self, row: RenderRow) -> int:
        """L of the calls that draw rows like this one."""
        lanes = self.lanes_for((row.width_px, row.height_px))
        return lanes if self._apart(row, places_of(row, lanes)) else ALONE

    def _apart(self, row: RenderRow, places: int) -> bool:
        """Whether rows like this one are independent of each other in one call; tried once."""
        if places == ALONE:
            return True
        negative = row.negative_prompt if self._call.takes_negative else ""
        kind = (row.width_px, row.height_px, row.guided, bool(negative))
        if kind not in self._tried:
            like = replace(
                self._usual,
                negative_prompt=negative,
                width_px=row.width_px,
                height_px=row.height_px,
                guidance_scale=row.guidance_scale,
                true_cfg_scale=row.true_cfg_scale,
            )
            reason = self._tried_on(like, places)
            self._tried[kind] = not reason
            if reason:
                with_negative = " with a negative prompt" if negative else ""
                note = f"{self.env.pipeline_class} draws one row{with_negative} at a time: {reason}"
                self.notes = tuple(dict.fromkeys([*self.notes, note]))
        return self._tried[kind]

    def _tried_on(self, row: RenderRow, places: int) -> str:
        reason, no_memory = "", False
        try:
            reason = why_coupled(self._call, row, places)
        except PASS_ERRORS as error:
            if not is_out_of_memory(error):
                raise RenderError(f"the device failed: {error}") from error
            no_memory = True
        if no_memory:
            free_memory()  # outside `except`, whose traceback would hold the tensors
            raise DeviceMemoryError(_too_many(places))
        return reason

    def render(self, rows: Iterable[RenderRow | None]) -> Iterator[Result]:
        """Draw every row; see `protocol.Renderer.render`.

        Raises:
            DeviceMemoryError: The device ran out of memory for the second time.
            RenderError: The device itself fails, not a row.
        """
        groups = Groups(rows, lambda row: places_of(row, self._lanes_of(row)))
        while len(groups) or not groups.exhausted:
            use_threads(self._cpu_threads)
            if self._leaving.is_set():
                groups.close()
            group = groups.take()
            if not group and not groups.exhausted:
                time.sleep(IDLE_S)
            started = time.monotonic()
            if group:
                yield from self._draw(group, self._lanes_of(group[0]))
                groups.call_seconds = time.monotonic() - started

    def leave(self) -> None:
        """Begin no call any more; see `protocol.Renderer.leave`."""
        self._leaving.set()

    def _draw(self, rows: Sequence[RenderRow], lanes: int) -> list[Result]:
        """Rows that are alike, at most as many as a call takes; faulty ones without a call."""
        results: list[Result] = []
        sound = []
        for row in rows:
            reason = self._call.fault(row)
            if reason:
                results.append(RowFailure(row, InputError.__name__, reason))
            else:
                sound.append(row)
        return results + (self._drawn(sound, lanes) if sound else [])

    def _drawn(self, rows: Sequence[RenderRow], lanes: int) -> list[Result]:
        """One call; where it fails, each row alone, or for want of memory in halves."""
        started = time.monotonic()
        places = places_of(rows[0], lanes)
        pictures, failure, memory = None, None, False
        try:
            pictures = self._pictures([*rows, *[rows[0]] * (places - len(rows))])
        except (InputError, *PASS_ERRORS) as error:
            if is_broken(error):
                raise RenderError(f"the device failed: {error}") from error
            memory = is_out_of_memory(error)
            failure = failure_of(rows[0], error)
        if pictures is not None:
            self._count(rows, places)
            latency_ms = 1000 * (time.monotonic() - started)
            return [
                self._result(row, picture, lanes, latency_ms)
                for row, picture in zip(rows, pictures, strict=False)
            ]
        if memory:
            return self._smaller(rows, lanes)
        if len(rows) == 1 and failure is not None:
            return [failure]
        return [result for row in rows for result in self._drawn([row], lanes)]

    def _pictures(self, rows: Sequence[RenderRow]) -> Sequence[NDArray[np.uint8] | None]:
        """uint8 `[H, W, 3]` of each row; None where numbers were not finite."""
        started = time.perf_counter()
        try:
            return _to_uint8(self._call.draw(rows))
        finally:
            self.counters.phase_seconds["denoise"] += time.perf_counter() - started

    def _smaller(self, rows: Sequence[RenderRow], lanes: int) -> list[Result]:
        """Out of memory: the same rows at half of L, once per renderer."""
        self.out_of_memory += 1
        free_memory()
        places = places_of(rows[0], lanes)
        if self.out_of_memory > 1 or (places == ALONE and not self._strict_pixels):
            raise DeviceMemoryError(_too_many(places))
        if self._strict_pixels:
            reason = f"out of memory with {lanes} lanes, and render.strict_pixels forbids less"
            return [RowFailure(row, DeviceMemoryError.__name__, reason) for row in rows]
        half = lanes // 2
        step = places_of(rows[0], half)
        parts = [rows[first : first + step] for first in range(0, len(rows), step)]
        return [result for part in parts for result in self._drawn(part, half)]

    def _count(self, rows: Sequence[RenderRow], places: int) -> None:
        passes = rows[0].num_inference_steps * (2 if rows[0].guided else 1)
        self.counters.lane_steps += len(rows) * passes
        self.counters.lane_slots += places * passes

    def _result(
        self, row: RenderRow, picture: NDArray[np.uint8] | None, lanes: int, latency_ms: float
    ) -> Result:
        if picture is None or not picture.any():
            return flawed(row, picture)
        self.counters.row_steps += row.num_inference_steps
        return RenderedImage(row, picture, lanes, False, latency_ms)


def places_of(row: RenderRow, lanes: int) -> int:
    """Rows like this one that a call of L lanes draws."""
    return max(1, lanes // (2 if row.guided else 1))


def _too_many(places: int) -> str:
    rows = "1 row" if places == 1 else f"{places} rows"
    return f"out of memory with {rows} in a call: use a smaller --batch-size"


def _to_uint8(pictures: Tensor) -> Sequence[NDArray[np.uint8] | None]:
    finite = pictures.isfinite().flatten(1).all(1).tolist()
    whole = (pictures.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = whole.permute(0, 2, 3, 1).contiguous().numpy()
    return [picture if flag else None for picture, flag in zip(pixels, finite, strict=True)]

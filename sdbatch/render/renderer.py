"""The three rooms joined: rows in, pictures out.

A `LaneRenderer` holds the rooms of one loaded model. Each call of `render` makes a `Flow`
(`flow.py`), which holds the state of that call: what waits, what is in lanes, what is being
decoded. So two calls share weights and counters, never rows.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from sdbatch.errors import DeviceMemoryError, InputError, SchedulerNotLinearError
from sdbatch.records import (
    ANY_SIZE,
    RenderedImage,
    RenderEnv,
    RenderRow,
    RowFailure,
    size_name,
)
from sdbatch.render.denoiser import LaneRow, Lanes, NoiseModel, pack_table
from sdbatch.render.device import PASS_ERRORS, failure_of, is_out_of_memory, use_threads
from sdbatch.render.flow import Flow
from sdbatch.render.image_decoder import ImageDecoder, LatentDecoder
from sdbatch.render.protocol import Counters
from sdbatch.render.solver import SolverTable, build_table
from sdbatch.render.text_encoder import TextEncoder, TextModel
from sdbatch.render.waiting import Size

KEPT_TABLES = 512


class LaneRenderer:
    """A loaded model that draws rows in lanes.

    Args:
        env: What it runs on.
        text_model: Room 1's model.
        noise_model: Room 2's.
        latent_decoder: Room 3's.
        scheduler_config: The model's own.
        choose_lanes: L for a picture size that has none yet.
        lanes: L per picture size, where it is settled.
        cpu_threads: Threads of torch while it computes.
        notes: What a person should hear of the device.
    """

    def __init__(
        self,
        env: RenderEnv,
        text_model: TextModel,
        noise_model: NoiseModel,
        latent_decoder: LatentDecoder,
        scheduler_config: Mapping[str, Any],
        choose_lanes: Callable[[Size], int],
        lanes: Mapping[str, int],
        cpu_threads: int,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = notes
        self.env = env
        self.lanes: Mapping[str, int] = dict(lanes)
        self.counters = Counters()
        self.text_encoder = TextEncoder(text_model)
        self.image_decoder = ImageDecoder(latent_decoder)
        self.out_of_memory = 0
        """Times the device ran out of memory; the second one is the last."""
        self._noise_model = noise_model
        self._scale = latent_decoder.scale
        self._scheduler_config = scheduler_config
        self._choose_lanes = choose_lanes
        self._tables: OrderedDict[tuple[str, str, int], tuple[SolverTable, Tensor]] = OrderedDict()
        self._cpu_threads = cpu_threads

    def render(self, rows: Iterable[RenderRow | None]) -> Iterator[RenderedImage | RowFailure]:
        """Draw every row; see `protocol.Renderer.render`.

        Raises:
            DeviceMemoryError: The device ran out of memory for the second time.
            RenderError: The device itself fails, not a row.
        """
        flow = Flow(self, rows)
        while flow.unfinished:
            use_threads(self._cpu_threads)
            yield from flow.tick()

    def lanes_for(self, size: Size) -> int:
        """L for a picture size; settled the first time it is asked for."""
        name = size_name(*size)
        if name not in self.lanes:
            chosen = self.lanes.get(ANY_SIZE) or self._choose_lanes(size)
            self.lanes = {**self.lanes, name: chosen}
        return self.lanes[name]

    def make_lanes(self, item: LaneRow, num_lanes: int) -> Lanes:
        """Empty lanes for rows of the size of `item`."""
        cells = (item.row.height_px // self._scale, item.row.width_px // self._scale)
        return Lanes(self._noise_model, num_lanes, cells, tuple(item.conditional.shape))

    def prepare(self, row: RenderRow, ahead: Iterable[str]) -> LaneRow | RowFailure:
        """Encode a row's prompts and find its table, or say why it cannot be drawn.

        Raises:
            DeviceMemoryError: No memory for the prompts.
        """
        try:
            table, packed = self._table(row)
            prompts = [row.prompt, row.negative_prompt] if row.guided else [row.prompt]
            found = self._encode(prompts, ahead)
        except (InputError, SchedulerNotLinearError, *PASS_ERRORS) as error:
            if is_out_of_memory(error):
                raise DeviceMemoryError("out of memory while encoding prompts") from error
            return failure_of(row, error)
        unconditional = found[1].embeds if row.guided else None
        return LaneRow(row, table, packed, found[0].embeds, unconditional, found[0].truncated)

    def _encode(self, prompts: list[str], ahead: Iterable[str]) -> list[Any]:
        try:
            return list(self.text_encoder.encode(prompts, ahead))
        except PASS_ERRORS as error:
            if is_out_of_memory(error):
                raise
        return list(self.text_encoder.encode(prompts))  # the fault may lie in a later prompt

    def _table(self, row: RenderRow) -> tuple[SolverTable, Tensor]:
        """The row's table and its packed form, made once per setting."""
        if row.width_px % self._scale or row.height_px % self._scale:
            raise InputError(f"width and height must be multiples of {self._scale}")
        key = (row.scheduler, row.scheduler_config, row.num_inference_steps)
        if key not in self._tables:
            table = build_table(
                row.scheduler,
                self._scheduler_config,
                _overrides(row.scheduler_config),
                row.num_inference_steps,
            )
            self._tables[key] = (table, pack_table(table))
            if len(self._tables) > KEPT_TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return self._tables[key]


def _overrides(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        overrides = json.loads(text)
    except ValueError as error:
        raise InputError(f"scheduler_config: no JSON ({error})") from error
    if not isinstance(overrides, dict):
        raise InputError("scheduler_config: must be a JSON object")
    return overrides

"""The three rooms joined: rows in, pictures out.

A `LaneRenderer` holds the rooms of one loaded model. Each call of `render` makes a `Flow`
(`flow.py`), which holds the state of that call: what waits, what is in lanes, what is being
decoded. So two calls share weights and counters, never rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sdbatch.errors import DeviceMemoryError, InputError, ModelError, RenderError
from sdbatch.model_specs import RenderEnv
from sdbatch.records import ANY_SIZE, RenderRow, size_name
from sdbatch.render.deep_cache import lanes_of
from sdbatch.render.denoiser import LaneRow, Lanes, NoiseModel
from sdbatch.render.device import PASS_ERRORS, failure_of, is_out_of_memory, use_threads
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.flow import Flow
from sdbatch.render.grouped import Group, GroupedRow
from sdbatch.render.image_decoder import ImageDecoder
from sdbatch.render.memory.memory_rooms import RESIDENT, Residence, Room
from sdbatch.render.memory.phased_flow import PhasedFlow
from sdbatch.render.protocol import Counters
from sdbatch.render.schedulers import SchedulerSetting
from sdbatch.render.solvers import Solvers, Untabled
from sdbatch.render.text_encoder import Conditioning, TextEncoder
from sdbatch.render.waiting import Kind, Size, size_of
from sdbatch.results import RenderedImage, RowFailure


class LaneRenderer:
    """A loaded model that draws rows in lanes.

    Args:
        env: What it runs on.
        rooms: What a model family has filled them with.
        scheduler_config: The model's own.
        choose_lanes: L for a picture size that has none yet.
        lanes: L per picture size, where it is settled.
        cpu_threads: Threads of torch while it computes.
        strict_pixels: Fail rows that run out of memory, rather than draw them with fewer lanes.
        prompt_chunks: Chunks of a prompt that a pass must have memory for.
        notes: What a person should hear of the device.
        counters: What it adds to; None begins with nothing.
        residence: Where the rooms' models lie.
    """

    def __init__(
        self,
        env: RenderEnv,
        rooms: Rooms,
        scheduler_config: Mapping[str, Any],
        choose_lanes: Callable[[Size], int],
        lanes: Mapping[str, int],
        cpu_threads: int,
        notes: tuple[str, ...] = (),
        strict_pixels: bool = False,
        prompt_chunks: int = 1,
        counters: Counters | None = None,
        residence: Residence = RESIDENT,
    ) -> None:
        self.notes = notes
        self.strict_pixels = strict_pixels
        self.env = env
        self.lanes: Mapping[str, int] = dict(lanes)
        self.counters = counters or Counters()
        self.residence = residence
        self.text_encoder = TextEncoder(rooms.text_model, residence=residence)
        self.image_decoder = ImageDecoder(rooms.latent_decoder, residence)
        self.out_of_memory = 0
        """Times the device ran out of memory; the second one is the last."""
        self.leaving = threading.Event()
        """Set once no row may be begun any more."""
        self.rooms = (rooms.text_model, rooms.noise_model, rooms.latent_decoder)
        """Their models, for who wants to measure them or set them beside others."""
        self.components = rooms.components
        """The parts of diffusers' own pipeline, by its parameter names."""
        self._noise_model = rooms.noise_model
        self._negative_text = rooms.negative_text
        self._scale = rooms.latent_decoder.scale
        self._solvers = Solvers(scheduler_config, self._spent_on_solvers, rooms.timing)
        self._choose_lanes = choose_lanes
        self._cpu_threads = cpu_threads
        self._prompt_chunks = prompt_chunks

    def render(self, rows: Iterable[RenderRow | None]) -> Iterator[RenderedImage | RowFailure]:
        """Draw every row; see `protocol.Renderer.render`.

        Raises:
            DeviceMemoryError: The device ran out of memory for the second time.
            RenderError: The device itself fails, not a row.
        """
        flow = PhasedFlow(self, rows) if self.residence.phased else Flow(self, rows)
        while flow.unfinished:
            use_threads(self._cpu_threads)
            yield from flow.tick()

    def leave(self) -> None:
        """Begin no row any more; see `protocol.Renderer.leave`."""
        self.leaving.set()

    def _spent_on_solvers(self, seconds: float) -> None:
        self.counters.phase_seconds["solvers"] += seconds

    def lanes_for(self, size: Size) -> int:
        """L for a picture size; settled the first time it is asked for."""
        name = size_name(*size)
        if name not in self.lanes:
            chosen = self.lanes.get(ANY_SIZE) or self._choose_lanes(size)
            self.lanes = {**self.lanes, name: chosen}
        return self.lanes[name]

    def try_pass(self, size: Size) -> None:
        """Run a pass of padding, so that what cannot run is known before the first row.

        Raises:
            ModelError: The model cannot run as it was asked to.
            DeviceMemoryError: A pass does not fit.
        """
        num_lanes, cells = self.lanes_for(size), (size[1] // self._scale, size[0] // self._scale)
        try:
            self.text_encoder.encode([""])
            self.residence.enter(Room.NOISE)
            for chunks in sorted({1, self._prompt_chunks}):
                embeds = self.text_encoder.shape(chunks)
                lanes_of(self._noise_model, num_lanes, cells, embeds).run_pass()
        except (RenderError, *PASS_ERRORS) as error:
            if is_out_of_memory(error):
                line = f"out of memory with {num_lanes} lanes: use a smaller --batch-size"
                raise DeviceMemoryError(line) from error
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"the model cannot run on {self.env.device}: {reason}") from error

    def latent_bytes(self, row: RenderRow) -> int:
        """What a row's latents take, in float32."""
        cells = row.height_px * row.width_px // self._scale**2
        return 4 * self._noise_model.channels * cells

    def kind_of(self, row: RenderRow, wait: bool = True) -> Kind | None:
        """What the row must share with others to run beside them.

        Args:
            wait: For its solver; else None is said of a row whose solver is being made.
        """
        try:
            chunks = self.text_encoder.num_chunks(self._texts(row), row.prompt_syntax)
            solver = self._solvers.find(row) if wait else self._solvers.ahead(row)
        except (InputError, *PASS_ERRORS):
            return (size_of(row), None, 1)  # `prepare` will say what is wrong with it
        if solver is None:
            return None
        if not isinstance(solver, Untabled):
            return (size_of(row), None, chunks)
        setting = (row.scheduler, row.scheduler_config, row.num_inference_steps, row.guided)
        return (size_of(row), setting, chunks)

    def make_lanes(
        self,
        item: LaneRow | GroupedRow,
        num_lanes: int,
        noise_model: NoiseModel | None = None,
    ) -> Lanes | Group:
        """Empty lanes for rows of the kind of `item`; `noise_model` may stand before room 2's."""
        cells = (item.row.height_px // self._scale, item.row.width_px // self._scale)
        model = noise_model or self._noise_model
        self.residence.enter(Room.NOISE)
        if isinstance(item, GroupedRow):
            return Group(model, num_lanes, cells, item)
        return lanes_of(model, num_lanes, cells, tuple(item.conditional.shape))

    def setting_of(self, row: RenderRow) -> SchedulerSetting:
        """A row's scheduler: the model's configuration with the row's overrides in it.

        Raises:
            InputError: The class or an override is unknown.
        """
        return self._solvers.setting_of(row)

    def prepare(
        self, row: RenderRow, ahead: Iterable[RenderRow]
    ) -> LaneRow | GroupedRow | RowFailure:
        """Encode a row's prompts and find its solver, or say why it cannot be drawn.

        Args:
            ahead: Rows that will come soon, whose prompts are read in the same way.

        Raises:
            DeviceMemoryError: No memory for the prompts.
        """
        try:
            if row.width_px % self._scale or row.height_px % self._scale:
                raise InputError(f"width and height must be multiples of {self._scale}")
            solver = self._solvers.find(row)
            found = self._conditioning(row, [text for one in ahead for text in self._texts(one)])
        except (InputError, *PASS_ERRORS) as error:
            if is_out_of_memory(error):
                raise DeviceMemoryError("out of memory while encoding prompts") from error
            return failure_of(row, error)
        unconditional = found[1].embeds if row.guided else None
        rest = (found[0].embeds, unconditional, found[0].truncated)
        if isinstance(solver, Untabled):
            return GroupedRow(row, solver.setting, solver.steps, *rest)
        return LaneRow(row, solver.table, solver.packed, *rest)

    def _conditioning(self, row: RenderRow, ahead: Iterable[str]) -> list[Conditioning]:
        """Of the prompt and, for a guided row, of the negative one."""
        if row.guided and not row.negative_prompt:
            found = self._encode([row.prompt], ahead, row.prompt_syntax)
            if nothing := self.text_encoder.no_negative(found[0]):
                return [*found, nothing]
        return self._encode(self._texts(row), ahead, row.prompt_syntax)

    def _encode(self, prompts: list[str], ahead: Iterable[str], syntax: str) -> list[Conditioning]:
        try:
            return list(self.text_encoder.encode(prompts, ahead, syntax))
        except PASS_ERRORS as error:
            if is_out_of_memory(error):
                raise
        # The fault may lie in a later prompt.
        return list(self.text_encoder.encode(prompts, syntax=syntax))

    def _texts(self, row: RenderRow) -> list[str]:
        """The prompts that the model is told of, as room 1 is handed them."""
        return (
            [row.prompt, self._negative_text(row.negative_prompt)] if row.guided else [row.prompt]
        )

"""The three rooms joined: rows in, pictures out.

A `LaneRenderer` holds the rooms of one loaded model. Each call of `render` makes a `Flow`
(`flow.py`), which holds the state of that call: what waits, what is in lanes, what is being
decoded. So two calls share weights and counters, never rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sdbatch.errors import DeviceMemoryError, InputError, ModelError, RenderError
from sdbatch.records import ANY_SIZE, RenderEnv, RenderRow, size_name
from sdbatch.render.deep_cache import lanes_of
from sdbatch.render.denoiser import LaneRow, Lanes, NoiseModel
from sdbatch.render.device import PASS_ERRORS, failure_of, is_out_of_memory, use_threads
from sdbatch.render.flow import Flow
from sdbatch.render.grouped import Group, GroupedRow
from sdbatch.render.image_decoder import ImageDecoder, LatentDecoder
from sdbatch.render.protocol import Counters
from sdbatch.render.schedulers import SchedulerSetting
from sdbatch.render.solvers import Solvers, Untabled
from sdbatch.render.text_encoder import TextEncoder, TextModel
from sdbatch.render.waiting import Kind, Size, size_of
from sdbatch.results import RenderedImage, RowFailure


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
        strict_pixels: Fail rows that run out of memory, rather than draw them with fewer lanes.
        prompt_chunks: Chunks of a prompt that a pass must have memory for.
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
        strict_pixels: bool = False,
        prompt_chunks: int = 1,
    ) -> None:
        self.notes = notes
        self.strict_pixels = strict_pixels
        self.env = env
        self.lanes: Mapping[str, int] = dict(lanes)
        self.counters = Counters()
        self.text_encoder = TextEncoder(text_model)
        self.image_decoder = ImageDecoder(latent_decoder)
        self.out_of_memory = 0
        """Times the device ran out of memory; the second one is the last."""
        self.rooms = (text_model, noise_model, latent_decoder)
        """Their models, for who wants to measure them or set them beside others."""
        self._noise_model = noise_model
        self._scale = latent_decoder.scale
        self._solvers = Solvers(scheduler_config, self._spent_on_solvers)
        self._choose_lanes = choose_lanes
        self._cpu_threads = cpu_threads
        self._prompt_chunks = prompt_chunks

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
            length, width = self.text_encoder.encode([""])[0].embeds.shape
            for chunks in sorted({1, self._prompt_chunks}):
                embeds = (chunks * length, width)
                lanes_of(self._noise_model, num_lanes, cells, embeds).run_pass()
        except (RenderError, *PASS_ERRORS) as error:
            if is_out_of_memory(error):
                line = f"out of memory with {num_lanes} lanes: use a smaller --batch-size"
                raise DeviceMemoryError(line) from error
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"the model cannot run on {self.env.device}: {reason}") from error

    def kind_of(self, row: RenderRow, wait: bool = True) -> Kind | None:
        """What the row must share with others to run beside them.

        Args:
            wait: For its solver; else None is said of a row whose solver is being made.
        """
        try:
            chunks = self.text_encoder.num_chunks(_prompts(row), row.prompt_syntax)
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
        if isinstance(item, GroupedRow):
            return Group(model, num_lanes, cells, item)
        return lanes_of(model, num_lanes, cells, tuple(item.conditional.shape))

    def setting_of(self, row: RenderRow) -> SchedulerSetting:
        """A row's scheduler: the model's configuration with the row's overrides in it.

        Raises:
            InputError: The class or an override is unknown.
        """
        return self._solvers.setting_of(row)

    def prepare(self, row: RenderRow, ahead: Iterable[str]) -> LaneRow | GroupedRow | RowFailure:
        """Encode a row's prompts and find its solver, or say why it cannot be drawn.

        Raises:
            DeviceMemoryError: No memory for the prompts.
        """
        try:
            if row.width_px % self._scale or row.height_px % self._scale:
                raise InputError(f"width and height must be multiples of {self._scale}")
            solver = self._solvers.find(row)
            found = self._encode(_prompts(row), ahead, row.prompt_syntax)
        except (InputError, *PASS_ERRORS) as error:
            if is_out_of_memory(error):
                raise DeviceMemoryError("out of memory while encoding prompts") from error
            return failure_of(row, error)
        unconditional = found[1].embeds if row.guided else None
        rest = (found[0].embeds, unconditional, found[0].truncated)
        if isinstance(solver, Untabled):
            return GroupedRow(row, solver.setting, solver.steps, *rest)
        return LaneRow(row, solver.table, solver.packed, *rest)

    def _encode(self, prompts: list[str], ahead: Iterable[str], syntax: str) -> list[Any]:
        try:
            return list(self.text_encoder.encode(prompts, ahead, syntax))
        except PASS_ERRORS as error:
            if is_out_of_memory(error):
                raise
        # The fault may lie in a later prompt.
        return list(self.text_encoder.encode(prompts, syntax=syntax))


def _prompts(row: RenderRow) -> list[str]:
    """The prompts that the model is told of."""
    return [row.prompt, row.negative_prompt] if row.guided else [row.prompt]

"""Room 2: rows of unlike settings denoised side by side.

A lane is one model input: (row, conditional or unconditional). Every pass has exactly L
lanes, empty ones padded, so the model sees one shape for a whole plan and a row's latents
do not depend on its neighbours. Schedulers enter as tables of coefficients (`solver.py`),
so one fused update serves every row of a pass. Noise comes from the row's own generator,
on the CPU, in the order in which diffusers would draw it.

Past latents and outputs lie in rings of `MAX_HISTORY` places: step k writes place k modulo
that, and a table is turned to match when it is packed. So nothing is ever shifted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sdbatch.records import RenderRow
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.solver import MAX_HISTORY, SolverTable

TIME, SCALE, NOISE, WEIGHTS = 0, 1, 2, 3
"""Columns of a packed table: t, c, n, then the weights of both rings."""


class NoiseModel(Protocol):
    """What a model family gives this room."""

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def num_numbers(self) -> int:
        """N: how many numbers of a row it is told in every call."""
        ...

    def row_numbers(self, row: RenderRow) -> Sequence[float]:
        """These N numbers."""
        ...

    def predict(self, inputs: LaneInputs) -> Tensor:
        """Model output `[L, C, h, w]` in float32."""
        ...


class DrawnRow(Protocol):
    """What is told of a row after its last step, whichever way it took them."""

    @property
    def row(self) -> RenderRow:
        """The row itself."""
        ...

    @property
    def truncated(self) -> bool:
        """Its prompt was cut."""
        ...

    @property
    def steps(self) -> int:
        """Model evaluations from the first latents to the last."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LaneRow:
    """A row ready for lanes.

    Attributes:
        table: Its scheduler's coefficients.
        packed: The same, turned for the rings: `[steps, 3 + 2 * MAX_HISTORY]`.
        conditional: Embeddings `[rows, width]` of its prompt.
        unconditional: Those of its negative prompt; None for a row without guidance.
        truncated: Its prompt was cut.
    """

    row: RenderRow
    table: SolverTable
    packed: Tensor
    conditional: Tensor
    unconditional: Tensor | None
    truncated: bool

    @property
    def num_lanes(self) -> int:
        """Lanes it takes in every step: two with guidance."""
        return 1 if self.unconditional is None else 2

    @property
    def steps(self) -> int:
        """Model evaluations from the first latents to the last."""
        return self.table.steps


@dataclass(frozen=True, slots=True, eq=False)
class Denoised:
    """A row after its last step.

    Attributes:
        latents: `[C, h, w]`, float32, on the device.
        num_lanes: L of the passes that made them.
        started: Monotonic seconds when it entered its lanes.
    """

    item: DrawnRow
    latents: Tensor
    num_lanes: int
    started: float


@dataclass(slots=True, eq=False)
class _Slot:
    """Host side of one row in flight."""

    item: LaneRow
    generator: torch.Generator
    started: float
    step: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Index tensors of one pass, kept while the same lanes run again.

    Attributes:
        lanes: Lane numbers `[L]`, padded with the padding slot's.
        slots: Slot of each lane, `[L]`.
        ready: Slots whose step is complete after this pass.
    """

    key: tuple[tuple[int, ...], tuple[int, ...]]
    lanes: Tensor
    slots: Tensor
    ready: Tensor


def pack_table(table: SolverTable) -> Tensor:
    """A table turned for the rings: `[steps, 3 + 2 * MAX_HISTORY]`, float32."""
    packed = torch.zeros(table.steps, WEIGHTS + 2 * MAX_HISTORY)
    packed[:, TIME], packed[:, SCALE] = torch.tensor(table.t), torch.tensor(table.c)
    packed[:, NOISE] = torch.tensor(table.n)
    for k in range(table.steps):
        for j in range(min(table.history, k + 1)):
            place = WEIGHTS + (k - j) % MAX_HISTORY
            packed[k, place] = table.a[k][j]
            packed[k, place + MAX_HISTORY] = table.b[k][j]
    return packed


class Lanes:
    """The rows in flight of one latent shape, and the passes that move them on.

    Slot s holds one row; its lanes are 2s (unconditional) and 2s + 1 (conditional). One
    slot more than can be filled is the padding. All tensors are made once.

    Args:
        num_lanes: L.
        size: Latent cells `(h, w)`.
        embeds: Shape of a prompt's embeddings.
        in_flight: Lanes that rows in flight may take; L by default.
    """

    def __init__(
        self,
        model: NoiseModel,
        num_lanes: int,
        size: tuple[int, int],
        embeds: tuple[int, ...],
        in_flight: int | None = None,
    ) -> None:
        self.num_lanes, self.size = num_lanes, size
        self.busy_lanes = 0
        """Lanes that the rows in flight take in every step."""
        self.real_lanes = 0
        """Lanes of the last pass that were not padding."""
        self._model = model
        self._in_flight = in_flight or num_lanes
        slots, shape, device = self._in_flight + 1, (model.channels, *size), model.device
        ring = (slots, 2 * MAX_HISTORY, *shape)
        self._history = torch.zeros(ring, device=device)
        self._outputs = torch.zeros(2 * slots, *shape, device=device)
        self._embeds = torch.zeros(2 * slots, *embeds, device=device)
        self._tables = torch.zeros(slots, 64, WEIGHTS + 2 * MAX_HISTORY, device=device)
        self._numbers = torch.zeros(slots, model.num_numbers, device=device)
        self._guidance = torch.zeros(slots, 1, 1, 1, device=device)
        self._guided = torch.zeros(slots, 1, 1, 1, dtype=torch.bool, device=device)
        self._steps = torch.zeros(slots, dtype=torch.long, device=device)
        self._slots: list[_Slot | None] = [None] * self._in_flight
        self._queue: deque[int] = deque()
        self._pass: Pass | None = None

    @property
    def free(self) -> bool:
        """Whether another row may enter: not every lane in flight is spoken for."""
        return self.busy_lanes < self._in_flight

    @property
    def rows(self) -> int:
        """Rows in flight."""
        return sum(slot is not None for slot in self._slots)

    @property
    def first_row(self) -> RenderRow:
        """A row in flight: the culprit, when it is the only one."""
        return next(slot.item.row for slot in self._slots if slot is not None)

    def admit(self, item: LaneRow) -> None:
        """Put a row into lanes, at its first step."""
        index = self._slots.index(None)
        generator = torch.Generator().manual_seed(item.row.seed)
        with torch.inference_mode():
            self._write(index, item, self._draw(generator))
        self._slots[index] = _Slot(item, generator, time.monotonic())
        self.busy_lanes += item.num_lanes
        self._enqueue(index)

    def _write(self, index: int, item: LaneRow, noise: Tensor) -> None:
        steps = item.table.steps
        if steps > self._tables.shape[1]:
            self._tables = torch.nn.functional.pad(
                self._tables, (0, 0, 0, steps - self._tables.shape[1])
            )
        self._tables[index, :steps] = item.packed.to(self._tables.device)
        self._history[index] = 0
        self._history[index, 0] = noise.to(self._history.device) * item.table.init_noise_sigma
        self._embeds[2 * index + 1] = item.conditional
        if item.unconditional is not None:
            self._embeds[2 * index] = item.unconditional
        self._numbers[index] = torch.tensor(self._model.row_numbers(item.row))
        self._guidance[index] = item.row.cfg_scale
        self._guided[index] = item.unconditional is not None
        self._steps[index] = 0

    def _draw(self, generator: torch.Generator) -> Tensor:
        # Drawn as `[1, C, h, w]`: the numbers depend on how many are asked for at once.
        return torch.randn((1, self._model.channels, *self.size), generator=generator)[0]

    def _enqueue(self, index: int) -> None:
        slot = self._slots[index]
        if slot is not None:
            slot.waiting = slot.item.num_lanes
            lanes = range(2 * index + 2 - slot.waiting, 2 * index + 2)
            self._queue_of(slot.step).extend(lanes)

    def _queue_of(self, step: int) -> deque[int]:  # noqa: ARG002  # subclasses ask
        """Where lanes wait for their model call in this step of their row."""
        return self._queue

    def _next_queue(self) -> deque[int]:
        """The queue that the next pass serves."""
        return self._queue

    def run_pass(self) -> list[Denoised]:
        """One call of the model with L lanes; gives the rows that took their last step."""
        with torch.inference_mode():
            run = self._next_pass()
            rows = self._tables[run.slots, self._steps[run.slots]]
            latents = self._history[run.slots, self._steps[run.slots] % MAX_HISTORY]
            inputs = latents * rows[:, SCALE].view(-1, 1, 1, 1)
            told = self._embeds[run.lanes], self._numbers[run.slots]
            outputs = self._predict(run, LaneInputs(inputs, rows[:, TIME], *told))
            self._outputs[run.lanes[: self.real_lanes]] = outputs[: self.real_lanes]
            return self._advance(run) if len(run.ready) else []

    def _predict(self, run: Pass, inputs: LaneInputs) -> Tensor:  # noqa: ARG002  # subclasses ask
        return self._model.predict(inputs)

    def _next_pass(self) -> Pass:
        """Take the next L lanes off a queue and find the rows they complete."""
        queue = self._next_queue()
        self.real_lanes = min(self.num_lanes, len(queue))
        lanes = tuple(queue.popleft() for _ in range(self.real_lanes))
        ready: list[int] = []
        for lane in lanes:
            slot = self._slots[lane // 2]
            if slot is not None:
                slot.waiting -= 1
                if not slot.waiting:
                    ready.append(lane // 2)
        key = (lanes, tuple(ready))
        if self._pass is None or self._pass.key != key:
            filled = [*lanes, *[2 * self._in_flight] * (self.num_lanes - len(lanes))]
            numbers = torch.tensor(filled, device=self._steps.device)
            index = torch.tensor(ready, dtype=torch.long, device=self._steps.device)
            self._pass = Pass(key, numbers, numbers // 2, index)
        return self._pass

    def _advance(self, run: Pass) -> list[Denoised]:
        """Guide, and take one step of every completed row, whatever its scheduler."""
        ready, steps = run.ready, self._steps[run.ready]
        unconditional, output = self._outputs[2 * ready], self._outputs[2 * ready + 1]
        guided = unconditional + self._guidance[ready] * (output - unconditional)
        output = torch.where(self._guided[ready], guided, output)
        self._history[ready, MAX_HISTORY + steps % MAX_HISTORY] = output
        table, history = self._tables[ready, steps], self._history[ready]
        after = table[:, NOISE].view(-1, 1, 1, 1) * self._noises(run.key[1])
        for place in range(2 * MAX_HISTORY):
            weight = table[:, WEIGHTS + place].view(-1, 1, 1, 1)
            after = torch.addcmul(after, weight, history[:, place])
        self._history[ready, (steps + 1) % MAX_HISTORY] = after
        self._steps[ready] = steps + 1
        return [done for i, index in enumerate(run.key[1]) for done in self._close(index, after[i])]

    def _noises(self, ready: Sequence[int]) -> Tensor:
        """Fresh noise `[n, C, h, w]` for rows whose scheduler draws in this step."""
        drawing = [
            (i, slot)
            for i, index in enumerate(ready)
            if (slot := self._slots[index]) is not None and slot.item.table.draws[slot.step]
        ]
        if not drawing:
            return torch.zeros(1, 1, 1, 1, device=self._history.device)
        noises = torch.zeros(len(ready), self._model.channels, *self.size)
        for i, slot in drawing:
            noises[i] = self._draw(slot.generator)
        return noises.to(self._history.device)

    def _close(self, index: int, latents: Tensor) -> list[Denoised]:
        """Count a row's step; hand it out after the last, else queue its lanes again."""
        slot = self._slots[index]
        if slot is None:
            return []
        slot.step += 1
        if slot.step < slot.item.table.steps:
            self._enqueue(index)
            return []
        self._slots[index] = None
        self.busy_lanes -= slot.item.num_lanes
        return [Denoised(slot.item, latents.clone(), self.num_lanes, slot.started)]

    def evict(self) -> list[LaneRow]:
        """Take every row out of its lanes, as if it had never been there."""
        items = [slot.item for slot in self._slots if slot is not None]
        self._slots = [None] * self._in_flight
        self._queue.clear()
        self._pass, self.busy_lanes = None, 0
        return items

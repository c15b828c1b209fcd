"""Room 2 for schedulers that are no table: rows of equal settings step together.

Clipping, thresholding and the like cannot be written as coefficients, so here the real
diffusers scheduler takes the steps: a fresh one for every group of rows that share
scheduler, configuration, steps, size and guidance on or off. A group starts with the rows
that are there and takes no other until they are done, for a scheduler counts one step for
all. Model passes have exactly L lanes and the group's latents one fixed shape, both padded,
so a row's latents do not depend on who shares its group.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdbatch.records import RenderRow
from sdbatch.render.denoiser import Denoised, NoiseModel
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.schedulers import SchedulerSetting, noise_from, step_options


@dataclass(frozen=True, slots=True, eq=False)
class GroupedRow:
    """A row ready for a group.

    Attributes:
        setting: Its scheduler.
        steps: Model evaluations from the first latents to the last.
        conditional: Embeddings `[rows, width]` of its prompt.
        unconditional: Those of its negative prompt; None for a row without guidance.
        truncated: Its prompt was cut.
    """

    row: RenderRow
    setting: SchedulerSetting
    steps: int
    conditional: Tensor
    unconditional: Tensor | None
    truncated: bool

    @property
    def num_lanes(self) -> int:
        """Lanes it takes in every step: two with guidance."""
        return 1 if self.unconditional is None else 2


@dataclass(slots=True, eq=False)
class _Member:
    """One row of the group, and its own source of noise."""

    item: GroupedRow
    generator: torch.Generator
    started: float


class Group:
    """The rows in flight of one setting, and the passes that move them on.

    Place p of the group holds one row; with guidance its lanes are 2p (unconditional) and
    2p + 1 (conditional). There are as many places as a pass of L lanes has room for, but at
    least one, whose lanes then take several passes.

    Args:
        model: Room 2's model.
        num_lanes: L.
        size: Latent cells `(h, w)`.
        first: Any row of the group: it says what all of them share.
    """

    def __init__(
        self, model: NoiseModel, num_lanes: int, size: tuple[int, int], first: GroupedRow
    ) -> None:
        self.num_lanes, self.size = num_lanes, size
        self.real_lanes = 0
        """Lanes of the last pass that were not padding."""
        self._model, self._setting = model, first.setting
        self._width = first.num_lanes
        self._places = max(1, num_lanes // self._width)
        self._shape = (model.channels, *size)
        lanes, device = self._places * self._width, model.device
        self._embeds = torch.zeros(lanes, *first.conditional.shape, device=device)
        self._outputs = torch.zeros(lanes, *self._shape, device=device)
        self._numbers = torch.zeros(lanes, model.num_numbers, device=device)
        self._guidance = torch.zeros(self._places, 1, 1, 1, device=device)
        self._latents = torch.zeros(self._places, *self._shape, device=device)
        self._members: list[_Member] = []
        self._scheduler: Any = None
        self._step = self._lanes_done = 0

    @property
    def free(self) -> bool:
        """Whether another row may enter: there is a place, and nobody has taken a step."""
        return self._scheduler is None and len(self._members) < self._places

    @property
    def busy_lanes(self) -> int:
        """Lanes that the rows in flight take in every step."""
        return len(self._members) * self._width

    @property
    def rows(self) -> int:
        """Rows in flight."""
        return len(self._members)

    @property
    def first_row(self) -> RenderRow:
        """A row in flight: the culprit, when it is the only one."""
        return self._members[0].item.row

    def admit(self, item: GroupedRow) -> None:
        """Put a row into the group before its first step."""
        place = len(self._members)
        generator = torch.Generator().manual_seed(item.row.seed)
        self._members.append(_Member(item, generator, time.monotonic()))
        with torch.inference_mode():
            lane = place * self._width
            if item.unconditional is not None:
                self._embeds[lane] = item.unconditional
            self._embeds[lane + self._width - 1] = item.conditional
            numbers = torch.tensor(self._model.row_numbers(item.row))
            self._numbers[lane : lane + self._width] = numbers
            self._guidance[place] = item.row.cfg_scale

    def run_pass(self) -> list[Denoised]:
        """One call of the model with L lanes; gives the rows when they took their last step."""
        with torch.inference_mode():
            if self._scheduler is None:
                self._start()
            self._predict()
            if self._lanes_done < self.busy_lanes:
                return []
            self._advance()
            if self._step < len(self._scheduler.timesteps):
                return []
            return self._finish()

    def _start(self) -> None:
        """A fresh scheduler, and every row's own first noise in its place."""
        scheduler = self._setting.make()
        self._latents = self._noises() * float(getattr(scheduler, "init_noise_sigma", 1.0))
        self._scheduler, self._step, self._lanes_done = scheduler, 0, 0

    def _noises(self) -> Tensor:
        """Fresh noise `[places, C, h, w]` from the rows' generators; empty places get zeros."""
        noises = torch.zeros(self._places, *self._shape)
        for place, member in enumerate(self._members):
            # One row at a time: the numbers depend on how many are asked for at once.
            noises[place] = torch.randn((1, *self._shape), generator=member.generator)[0]
        return noises.to(self._model.device)

    def _predict(self) -> None:
        """Model outputs of the next L lanes of this step."""
        t = self._scheduler.timesteps[self._step]
        scales = hasattr(self._scheduler, "scale_model_input")
        scaled = self._scheduler.scale_model_input(self._latents, t) if scales else self._latents
        first = self._lanes_done
        last = min(first + self.num_lanes, self.busy_lanes)
        inputs = torch.zeros(self.num_lanes, *self._shape, device=self._latents.device)
        embeds = torch.zeros(self.num_lanes, *self._embeds.shape[1:], device=self._latents.device)
        numbers = torch.zeros(self.num_lanes, self._numbers.shape[1], device=self._latents.device)
        self.real_lanes = last - first
        inputs[: self.real_lanes] = scaled.repeat_interleave(self._width, 0)[first:last]
        embeds[: self.real_lanes] = self._embeds[first:last]
        numbers[: self.real_lanes] = self._numbers[first:last]
        times = torch.full((self.num_lanes,), float(t), device=self._latents.device)
        outputs = self._model.predict(LaneInputs(inputs, times, embeds, numbers))
        self._outputs[first:last] = outputs[: self.real_lanes]
        self._lanes_done = last

    def _advance(self) -> None:
        """Guide, and let the scheduler take one step of all rows."""
        output = self._outputs
        if self._width == 2:
            unconditional, conditional = self._outputs[0::2], self._outputs[1::2]
            output = unconditional + self._guidance * (conditional - unconditional)
        scheduler, t = self._scheduler, self._scheduler.timesteps[self._step]
        with noise_from(scheduler, lambda _: self._noises()):
            self._latents = scheduler.step(
                output, t, self._latents, return_dict=False, **step_options(scheduler)
            )[0]
        self._step += 1
        self._lanes_done = 0

    def _finish(self) -> list[Denoised]:
        """Hand every row out and be empty again."""
        done = [
            Denoised(member.item, self._latents[place].clone(), self.num_lanes, member.started)
            for place, member in enumerate(self._members)
        ]
        self.evict()
        return done

    def evict(self) -> list[GroupedRow]:
        """Take every row out, as if it had never been there."""
        items = [member.item for member in self._members]
        self._members, self._scheduler = [], None
        self._outputs.zero_()  # the padding of the next group, whatever this one left
        self._embeds.zero_()
        self._numbers.zero_()
        return items

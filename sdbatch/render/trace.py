"""One row from noise to picture: what the model saw and what it foresaw, call by call.

The row takes the very way it takes in a run (same lanes, same padding, same decoder), so
the last picture is the one a run gives, bit for bit. An observer stands before room 2's
model; lanes know nothing of it, and a run never meets it.

Whatever the scheduler, a model of this kind is given `s * picture + n * noise` with
`s^2 + n^2 = 1`, or `s + n = 1` if it is a flow's, and says what the noise is (or the picture, or
a mix of both, or the way between them). So from every call one can tell which finished picture
the model had in mind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdbatch.errors import InputError, NonFiniteError, RenderError
from sdbatch.records import RenderRow
from sdbatch.render.denoiser import LaneRow, NoiseModel
from sdbatch.render.flow import Room
from sdbatch.render.grouped import GroupedRow
from sdbatch.render.lane_inputs import LaneInputs
from sdbatch.render.renderer import LaneRenderer
from sdbatch.results import RowFailure

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Moment:
    """One call of the model, as pictures.

    Attributes:
        step: Which call, from 0.
        noise: Share of noise in what the model saw, by variance; None when the scheduler
            does not say (no `alphas_cumprod`, or another way of predicting).
        seen: Latents as the model saw them, decoded.
        predicted: The finished picture it had in mind; None when `noise` is.
    """

    step: int
    timestep: float
    noise: float | None
    seen: Pixels
    predicted: Pixels | None


@dataclass(frozen=True, slots=True)
class RowTrace:
    """One row from noise to picture.

    Attributes:
        steps: Calls of the model in all.
        moments: Those that were asked for, in order.
        picture: The finished picture.
        num_lanes: L of its passes.
    """

    row: RenderRow
    steps: int
    moments: tuple[Moment, ...]
    picture: Pixels
    num_lanes: int


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """Room 2's side of one step: its input, and its output after guidance."""

    timestep: float
    latents: Tensor
    output: Tensor


@dataclass(frozen=True, slots=True)
class _Mix:
    """What the model was given in a call: so much of the picture and so much noise.

    Attributes:
        share: Of noise, by variance.
        kind: What it predicts, a key of `PREDICTIONS`.
    """

    share: float
    picture: float
    noise: float
    kind: str


class _Watched:
    """A noise model that writes down what it is asked about the one row in lanes."""

    def __init__(self, model: NoiseModel, item: LaneRow | GroupedRow) -> None:
        self._model, self._item = model, item
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self.calls: list[_Call] = []

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self._model.channels

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._model.device

    @property
    def num_numbers(self) -> int:
        """Numbers of a row that the model is told."""
        return self._model.num_numbers

    def row_numbers(self, row: RenderRow) -> Sequence[float]:
        """These numbers."""
        return self._model.row_numbers(row)

    def predict(self, inputs: LaneInputs) -> Tensor:
        """Answer as the model does; lanes of the row stand first, padding behind them."""
        outputs = self._model.predict(inputs)
        latents, timesteps, embeds = inputs.latents, inputs.timesteps, inputs.embeds
        missing = self._item.num_lanes - len(self._outputs)
        self._outputs += zip(embeds[:missing].clone(), outputs[:missing].clone(), strict=True)
        if len(self._outputs) == self._item.num_lanes:
            call = _Call(float(timesteps[0]), latents[0].clone(), self._guided())
            self.calls.append(call)
            self._outputs = []
        return outputs

    def _guided(self) -> Tensor:
        conditional = self._item.conditional
        mine = next((o for e, o in self._outputs if torch.equal(e, conditional.to(e))), None)
        if mine is None:
            raise RenderError("trace: no lane of the row was given its prompt")
        if len(self._outputs) == 1:
            return mine
        other = next((o for _, o in self._outputs if o is not mine), mine)
        return other + self._item.row.cfg_scale * (mine - other)


def trace_row(renderer: LaneRenderer, row: RenderRow, frames: int) -> RowTrace:
    """Draw a row and keep what the model saw and foresaw.

    Args:
        frames: Calls to show, evenly spread from the first to the last.

    Raises:
        RenderError: The row cannot be drawn.
    """
    item = renderer.prepare(row, ())
    if isinstance(item, RowFailure):
        raise RenderError(f"this row cannot be drawn: {item.error_type}: {item.error_message}")
    size = (row.width_px, row.height_px)
    watched = _Watched(renderer.rooms[1], item)
    lanes: Room = renderer.make_lanes(item, renderer.lanes_for(size), watched)
    lanes.admit(item)
    done = lanes.run_pass()
    while not done:
        done = lanes.run_pass()
    chosen = _spread(len(watched.calls), frames)
    with torch.inference_mode():
        mixes = [_mix(renderer, row, step, watched.calls[step].timestep) for step in chosen]
        foreseen = [
            None if mix is None else _foreseen(watched.calls[step], mix)
            for step, mix in zip(chosen, mixes, strict=True)
        ]
    seen = _decode(renderer, [watched.calls[step].latents for step in chosen])
    predicted = iter(_decode(renderer, [each for each in foreseen if each is not None]))
    moments = [
        Moment(
            step=step,
            timestep=watched.calls[step].timestep,
            noise=None if mix is None else mix.share,
            seen=picture,
            predicted=None if mix is None else next(predicted),
        )
        for step, mix, picture in zip(chosen, mixes, seen, strict=True)
    ]
    (picture,) = _decode(renderer, [done[0].latents])
    return RowTrace(row, len(watched.calls), tuple(moments), picture, lanes.num_lanes)


def _spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of `count` places, the first and the last among them."""
    if wanted < 2 or count < 2:
        return [0]
    return sorted({round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})


def _mix(renderer: LaneRenderer, row: RenderRow, step: int, timestep: float) -> _Mix | None:
    """What the model was given in a call; None where the scheduler does not say.

    Between two trained timesteps the ratio of noise to picture is interpolated as the
    schedulers do it, in its logarithm. A flow's noise level is its scheduler's sigma.
    """
    try:
        scheduler = renderer.setting_of(row).make()
    except InputError as error:  # it was made a moment ago
        raise RenderError(f"this row cannot be drawn: {error}") from error
    shares = getattr(scheduler, "alphas_cumprod", None)
    kind = scheduler.config.get("prediction_type")
    if row.scheduler.startswith("FlowMatch") or kind == FLOW:
        sigma = float(scheduler.sigmas[step])
        return _Mix(sigma**2 / (sigma**2 + (1 - sigma) ** 2), 1 - sigma, sigma, FLOW)
    if shares is None or kind not in PREDICTIONS:
        return None
    kept = np.clip(np.asarray(shares, dtype=np.float64), 1e-8, 1 - 1e-8)
    log_ratio = np.interp(timestep, np.arange(len(kept)), np.log((1 - kept) / kept))
    kept_share = 1 / (1 + math.exp(log_ratio))
    return _Mix(1 - kept_share, math.sqrt(kept_share), math.sqrt(1 - kept_share), kind)


def _foreseen(call: _Call, mix: _Mix) -> Tensor:
    """The finished latents that the model had in mind."""
    on_latents, on_output = PREDICTIONS[mix.kind](mix.picture, mix.noise)
    return on_latents * call.latents + on_output * call.output


FLOW = "flow_prediction"
PREDICTIONS: Mapping[str, Callable[[float, float], tuple[float, float]]] = {
    "epsilon": lambda picture, noise: (1 / picture, -noise / picture),
    "v_prediction": lambda picture, noise: (picture, -noise),
    FLOW: lambda _picture, noise: (1.0, -noise),
    "sample": lambda _picture, _noise: (0.0, 1.0),
}
"""What a model may predict, to the weights of its input and of its output in the picture."""


def _decode(renderer: LaneRenderer, latents: Sequence[Tensor]) -> list[Pixels]:
    """Pictures, in the chunks of a run.

    Raises:
        NonFiniteError: NaN or infinity in one of them.
    """
    found: list[Pixels] = []
    room = renderer.image_decoder
    while len(found) < len(latents):
        chunk = latents[len(found) : len(found) + room.chunk_size(latents[0])]
        for pixels in room.decode(chunk).pixels():
            if pixels is None:
                raise NonFiniteError("latents or pixels hold NaN or infinity")
            found.append(pixels)
    return found

"""Shows one row from noise to picture: which parts are decided early, and which late.

A trace draws the row exactly as a run does and looks over the model's shoulder. Beside the
pictures it measures how much of the finished picture stood in each prediction, in three
bands of detail: models of this kind decide from coarse to fine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdbatch.dataset.figures import save_png
from sdbatch.dataset.strip import Column, strip
from sdbatch.engine.planned_model import load_planned, read_job
from sdbatch.engine.stored_rows import Key, find_pictures
from sdbatch.errors import InputError
from sdbatch.records import RenderRow
from sdbatch.render.fake import FakeRenderer
from sdbatch.render.protocol import Renderer
from sdbatch.storage import layout
from sdbatch.storage.store import Store

if TYPE_CHECKING:
    from sdbatch.render.trace import Moment, RowTrace

FRAMES = 8
CYCLES = (4, 16)
"""Waves across a picture's shorter side where coarse ends, and where fine begins."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One call of the model, in numbers.

    Attributes:
        call: Which, from 1.
        noise: Share of noise in its input, by variance.
        decided: Band to how alike the call's prediction and the finished picture are,
            0 to 1. `noise` and `decided` are None where the scheduler does not tell.
    """

    call: int
    timestep: float
    noise: float | None
    decided: dict[str, float] | None


@dataclass(frozen=True)
class Trace:
    """A row from noise to picture.

    Attributes:
        calls: Calls of the model in all; `frames` are those that were looked at.
        pixels: The finished picture, the very one that a run gives.
        file: The strip that was drawn.
    """

    row: RenderRow
    calls: int
    frames: tuple[Frame, ...]
    pixels: NDArray[np.uint8]
    file: str

    def describe(self) -> str:
        """One line: where the strip is, and of what."""
        shown = f"{len(self.frames)} of {self.calls} calls"
        return f"{self.file}: {shown}, seed {self.row.seed}, {self.row.prompt!r}"

    def to_dict(self) -> dict[str, Any]:
        """All but the pixels, as `trace --json` prints it."""
        return {
            "file": self.file,
            "calls": self.calls,
            "row": asdict(self.row),
            "frames": [asdict(frame) for frame in self.frames],
        }


def trace_stored(
    store: Store,
    key: Key,
    out: Path,
    *,
    frames: int = FRAMES,
    model: str = "",
    models_dir: str = "",
    run: str = layout.MAIN,
) -> Trace:
    """Trace a picture of a dataset, failed ones included, as it was drawn there.

    Raises:
        InputError: There is no run, the key is not in it, or it names several pictures.
        ModelError: The planned weights are not here.
        RenderError: The row cannot be drawn.
    """
    job = read_job(store, run)
    pictures = find_pictures(store, job, [key])
    if len(pictures) > 1:
        span = f"{pictures[0].key} to {pictures[-1].key}"
        raise InputError(f"key {str(key)!r}: row {key} has several pictures, name one of {span}")
    renderer = load_planned(job.spec.render, model, models_dir, job.spec.storage)
    return trace_with(renderer, pictures[0].row, job.spec.render.model, out, frames=frames)


def trace_with(
    renderer: Renderer, row: RenderRow, model: str, out: Path, *, frames: int = FRAMES
) -> Trace:
    """Trace a row with a loaded model and draw the strip.

    Raises:
        InputError: The model has no latents to look at.
        RenderError: The row cannot be drawn.
        StorageError: The strip cannot be written.
    """
    if isinstance(renderer, FakeRenderer):
        raise InputError(f"model {model}: draws without latents, name a real model to trace")
    from sdbatch.render.renderer import LaneRenderer
    from sdbatch.render.trace import trace_row

    if not isinstance(renderer, LaneRenderer):
        raise InputError(f"model {model}: its renderer has no latents to look at")
    traced = trace_row(renderer, row, frames)
    seen = tuple(_frame(moment, traced.picture) for moment in traced.moments)
    columns = [_column(*pair) for pair in zip(traced.moments, seen, strict=True)]
    picture = strip(columns, traced.picture, row.prompt, _facts(traced, model), _bands(row))
    return Trace(row, traced.steps, seen, traced.picture, save_png(picture, out))


def decided(predicted: NDArray[np.uint8], picture: NDArray[np.uint8]) -> tuple[float, float, float]:
    """How alike a prediction and the picture are: in coarse, middle and fine parts, 0 to 1.

    Both are taken apart into waves; in each band it is their correlation, which asks where
    things are and which way they differ from their surroundings, not how strongly. The mean
    colour belongs to no band.
    """
    height, width = picture.shape[:2]
    shorter = min(height, width)
    across = np.hypot(
        np.fft.fftfreq(height)[:, None] * shorter, np.fft.fftfreq(width)[None, :] * shorter
    )
    foreseen, whole = (
        np.fft.fft2(pixels.astype(np.float64), axes=(0, 1)) for pixels in (predicted, picture)
    )
    edges = (0.0, *CYCLES, np.inf)
    shares = []
    for low, high in pairwise(edges):
        band = (across > low) & (across <= high)
        first, second = foreseen[band], whole[band]
        size = float(np.linalg.norm(first) * np.linalg.norm(second))
        alike = float(np.vdot(first, second).real) / size if size else 0.0
        shares.append(min(1.0, max(0.0, alike)))
    return (shares[0], shares[1], shares[2])


def _frame(moment: Moment, picture: NDArray[np.uint8]) -> Frame:
    shares = None
    if moment.predicted is not None:
        values = decided(moment.predicted, picture)
        shares = dict(zip(("coarse", "middle", "fine"), values, strict=True))
    return Frame(moment.step + 1, moment.timestep, moment.noise, shares)


def _column(moment: Moment, frame: Frame) -> Column:
    return Column(
        name=f"call {frame.call}",
        note=f"timestep {frame.timestep:.4g}",
        noise=moment.noise,
        seen=moment.seen,
        predicted=moment.predicted,
        decided=tuple(frame.decided.values()) if frame.decided else (),
    )


def _facts(traced: RowTrace, model: str) -> str:
    row = traced.row
    parts = [
        model.rstrip("/").rsplit("/", 1)[-1],
        row.scheduler,
        f"{row.num_inference_steps} steps",
        f"guidance {row.guidance_scale:g}",
        *([] if row.true_cfg_scale is None else [f"true CFG {row.true_cfg_scale:g}"]),
        f"seed {row.seed}",
        f"{row.width_px} x {row.height_px} px",
    ]
    return " · ".join(parts)


def _bands(row: RenderRow) -> tuple[str, str, str]:
    """What the bands mean in this picture: a wave holds two parts, a light and a dark one."""
    shorter = min(row.width_px, row.height_px)
    large, small = (shorter / (2 * cycles) for cycles in CYCLES)
    return (f"over {large:g} px", f"{small:g} to {large:g} px", f"under {small:g} px")

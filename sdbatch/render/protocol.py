"""The door to the pictures: what a worker may ask of any renderer.

A renderer takes rows and gives pictures, in whatever order it likes. Workers know
this Protocol and nothing behind it, so the fake one of `fake.py` and the real one of
`renderer.py` are exchangeable. Neither torch nor files are known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sdbatch.model_specs import RenderEnv
from sdbatch.records import RenderRow
from sdbatch.results import RenderedImage, RowFailure

PHASES = ("load", "solvers", "text_encode", "denoise", "decode")


@dataclass(slots=True)
class Counters:
    """What a renderer has done since it was loaded; only ever grows.

    Attributes:
        row_steps: Table steps of finished rows; a guidance pair counts once.
        lane_steps: Real lanes times passes; padding never counts.
        lane_slots: All lanes times passes: occupancy = lane_steps / lane_slots.
        phase_seconds: Wall seconds in each of `PHASES`; `solvers` passes beside the others. Once
            weights were moved between host and device, `swap` too.
    """

    row_steps: int = 0
    lane_steps: int = 0
    lane_slots: int = 0
    phase_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))


class Renderer(Protocol):
    """A loaded model that draws rows.

    Attributes:
        env: What it runs on.
        lanes: L per picture size (`WxH`).
        counters: Running totals; a caller takes differences.
        notes: What a person should hear of the device, one line each.
    """

    env: RenderEnv
    lanes: Mapping[str, int]
    counters: Counters
    notes: tuple[str, ...]

    def render(self, rows: Iterable[RenderRow | None]) -> Iterator[RenderedImage | RowFailure]:
        """Draw every row; each one pulled comes back exactly once, in any order.

        Rows are pulled one by one as there is room for them. `None` says that no row waits
        right now: what is in flight goes on, and the iterable is asked again a little later.
        While nothing is in flight the iterable is expected to block instead. When it ends,
        what is in flight is finished.

        Raises:
            DeviceMemoryError: The device ran out of memory for the second time.
            RenderError: The device itself fails, not a row.
        """
        ...

    def leave(self) -> None:
        """Begin no row any more: of those pulled, only what is being drawn comes back.

        For good. Any thread may call, while `render` runs in another one.
        """
        ...

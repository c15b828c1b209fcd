"""What came of it: pictures, failures, files and the facts of a finished shard.

The second half of the nouns; `records.py` holds what is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdbatch.records import RenderRow


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """A finished picture.

    Attributes:
        pixels: uint8 `[H, W, 3]`, RGB.
        num_lanes: L of the passes that drew it.
        prompt_truncated: The prompt was longer than the text encoder takes.
        latency_ms: Wall time from its first pass to its pixels, less what its latents waited on
            the host for their turn.
        scores: Column to what a scorer said; None where it failed.
    """

    row: RenderRow
    pixels: NDArray[np.uint8]
    num_lanes: int
    prompt_truncated: bool
    latency_ms: float
    scores: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A picture that cannot be drawn, with the reason."""

    row: RenderRow
    error_type: str
    error_message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One stored file of a shard."""

    key: str
    num_rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What one attempt made of a shard: the facts of its commit record.

    Attributes:
        errors_file: Pictures that failed; None when none did.
        filtered_file: Pictures that were drawn and filtered; None when none was.
        images_sha256: Hash over the ordered picture keys and their ends.
        errors: Error type to count.
        phase_seconds: load, solvers, text_encode, denoise, decode, image_encode, write.
        row_steps: Table steps of finished rows; a guidance pair counts once.
        lane_steps: Real lanes times passes; padding never counts.
        lane_slots: All lanes times passes: occupancy = lane_steps / lane_slots.
    """

    shard_id: int
    attempt: str
    data: DataFile
    metadata: DataFile
    errors_file: DataFile | None
    num_rows: int
    success: int
    failed: int
    filtered: int
    images_sha256: str
    errors: Mapping[str, int]
    started_at: str
    finished_at: str
    phase_seconds: Mapping[str, float]
    row_steps: int
    lane_steps: int
    lane_slots: int
    worker: str
    device_name: str
    attempts: int
    filtered_file: DataFile | None = None

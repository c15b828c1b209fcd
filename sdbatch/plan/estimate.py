"""What a run will take: bytes and files by rule of thumb, time only from a measurement.

A guess at seconds would be believed and be wrong by a factor of a hundred between a laptop
and a GPU; without a measured figure the time is unknown, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdbatch.manifest.shape import RowShape
from sdbatch.records import Shard

PNG_BYTES_PER_PX = 1.45
BYTES_PER_IMAGE = 1500
"""Columns of a picture, its metadata row, and what PNG adds."""
FILES_PER_SHARD = 3
"""Data, metadata and commit record."""
FILES_PER_RUN = 8
"""Job, plan, schema, success, progress, lease, card and preview, more or less."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to take.

    Attributes:
        rows: Manifest rows.
        images: Pictures.
        shards: Shards.
        files: Objects in the output folder at the end.
        size_bytes: Of all of them together.
        seconds: Wall time; None when nothing was measured.
    """

    rows: int
    images: int
    shards: int
    files: int
    size_bytes: int
    seconds: float | None


def image_bytes(width_px: int, height_px: int) -> int:
    """Bytes a picture of this size adds to a dataset, as PNG."""
    return int(PNG_BYTES_PER_PX * width_px * height_px) + BYTES_PER_IMAGE


def estimate(
    shape: RowShape,
    shards: Sequence[Shard],
    *,
    seconds_per_image: float | None = None,
    workers: int = 1,
) -> Estimate:
    """Estimate a run.

    Args:
        shape: What its rows ask for.
        shards: How they are cut.
        seconds_per_image: Measured on one worker; None leaves the time unknown.
        workers: Workers that share the work.
    """
    images = shape.num_images
    per_size = shape.images_by_size()
    size_bytes = sum(count * image_bytes(*size) for size, count in per_size.items())
    return Estimate(
        rows=shape.num_rows,
        images=images,
        shards=len(shards),
        files=len(shards) * FILES_PER_SHARD + FILES_PER_RUN,
        size_bytes=size_bytes,
        seconds=None if seconds_per_image is None else images * seconds_per_image / workers,
    )

"""What a run will take: bytes and files by rule of thumb, time only from a measurement.

A guess at seconds would be believed and be wrong by a factor of a hundred between a laptop
and a GPU; without a measured figure the time is unknown, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdbatch.manifest.shape import RowShape
from sdbatch.output_specs import ImageSpec
from sdbatch.records import Shard

PNG = ImageSpec()
PNG_BYTES_PER_PX = 1.45
LOSSLESS_BYTES_PER_PX = {"png": PNG_BYTES_PER_PX, "webp": 1.3, "jxl": 1.15}
QUALITIES = (1, 30, 50, 75, 90, 95, 100)
LOSSY_BYTES_PER_PX = {
    "jpeg": (0.02, 0.07, 0.10, 0.16, 0.26, 0.36, 0.70),
    "webp": (0.01, 0.06, 0.08, 0.11, 0.23, 0.32, 0.45),
    "avif": (0.01, 0.03, 0.08, 0.16, 0.27, 0.35, 0.70),
    "jxl": (0.01, 0.06, 0.07, 0.12, 0.21, 0.30, 0.45),
}
"""At `QUALITIES`: rounded means over five photographs of 0.1 to 0.3 megapixels."""
FULL_CHROMA = 1.35
BYTES_PER_IMAGE = 1500
"""Columns of a picture, its metadata row, and what a file adds."""
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
        groups: (size in pixels, model calls times lanes of a picture, pictures) of each kind.
    """

    rows: int
    images: int
    shards: int
    files: int
    size_bytes: int
    seconds: float | None
    groups: tuple[tuple[tuple[int, int], int, int], ...] = ()


def image_bytes(width_px: int, height_px: int, image: ImageSpec = PNG) -> int:
    """Bytes that a picture drawn at this size adds to a dataset."""
    width, height = image.size(width_px, height_px)
    return int(bytes_per_px(image) * width * height) + BYTES_PER_IMAGE


def bytes_per_px(image: ImageSpec) -> float:
    """Bytes that a pixel takes in such files, by rule of thumb."""
    if image.keeps_pixels:
        return LOSSLESS_BYTES_PER_PX[image.format]
    known = LOSSY_BYTES_PER_PX[image.format]
    return float(np.interp(image.quality, QUALITIES, known)) * (
        FULL_CHROMA if image.chroma == "444" else 1.0
    )


def smaller_formats(image: ImageSpec) -> dict[str, float]:
    """Flags that name a format which needs less room, and by how much, as a share of this one."""
    now = bytes_per_px(image)
    wanted = {
        "--image-format webp --lossless": ImageSpec("webp", lossless=True),
        "--image-format webp": ImageSpec("webp", quality=90),
        "--image-format jpeg --quality 75": ImageSpec("jpeg", quality=75, chroma="420"),
        "--image-format avif --quality 50": ImageSpec("avif", quality=50, chroma="420"),
    }
    shares = {flags: bytes_per_px(other) / now for flags, other in wanted.items()}
    return {flags: share for flags, share in shares.items() if share < 0.95}


def estimate(
    shape: RowShape,
    shards: Sequence[Shard],
    *,
    image: ImageSpec = PNG,
    files_per_image: int = 0,
    seconds_per_image: float | None = None,
    workers: int = 1,
) -> Estimate:
    """Estimate a run.

    Args:
        shape: What its rows ask for.
        shards: How they are cut.
        image: How pictures are stored.
        files_per_image: Files of its own that each picture has.
        seconds_per_image: Measured on one worker; None leaves the time unknown.
        workers: Workers that share the work.
    """
    images = shape.num_images
    per_size = shape.images_by_size()
    size_bytes = sum(count * image_bytes(*size, image) for size, count in per_size.items())
    return Estimate(
        rows=shape.num_rows,
        images=images,
        shards=len(shards),
        files=len(shards) * FILES_PER_SHARD + FILES_PER_RUN + images * files_per_image,
        size_bytes=size_bytes,
        seconds=None if seconds_per_image is None else images * seconds_per_image / workers,
        groups=tuple((*kind, count) for kind, count in shape.images_by_work().items()),
    )

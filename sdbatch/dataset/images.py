"""Pixels to bytes and back.

A format is one row of a table: another one is a function beside `_png`. Files hold no
clock and no host name, so that the same pixels give the same bytes on every attempt.
PNG is written at level 1 with run-length matching: no larger than Pillow's default on
photo-like pictures, two to five times as fast, and the GIL is free meanwhile. Flat art
is smaller at level 6.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sdbatch.dataset.picture_metadata import PictureMetadata, png_info
from sdbatch.errors import DamagedError, JobError, RenderError
from sdbatch.records import ImageSpec

NO_METADATA = PictureMetadata()


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A picture as it is stored.

    Attributes:
        format: `png`, ...; also the ending of its file name.
        sha256: Of `data`.
        pixel_sha256: Of the raw pixels, whatever the format.
    """

    data: bytes
    format: str
    width_px: int
    height_px: int
    sha256: str
    pixel_sha256: str


def encode(
    pixels: NDArray[np.uint8], spec: ImageSpec, metadata: PictureMetadata = NO_METADATA
) -> EncodedImage:
    """Encode one picture; equal pixels, settings and texts give equal bytes.

    Args:
        pixels: uint8 `[H, W, 3]`, RGB.
        spec: Format and its settings.
        metadata: Texts that the file carries.

    Raises:
        RenderError: `pixels` is no such array.
        JobError: The format is unknown.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise RenderError(
            f"picture of {pixels.dtype} {list(pixels.shape)}: must be uint8 [height, width, 3]"
        )
    if spec.format not in FORMATS:
        raise JobError(f"image.format: '{spec.format}' is unknown, one of {', '.join(FORMATS)}")
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    data = FORMATS[spec.format](picture, spec, metadata)
    height, width, _ = pixels.shape
    return EncodedImage(
        data=data,
        format=spec.format,
        width_px=width,
        height_px=height,
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(pixels),
    )


def pixel_sha256(pixels: NDArray[np.uint8]) -> str:
    """Hash of the raw RGB bytes, row by row: equal pictures, equal hash, in any format."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def decode(data: bytes, name: str = "picture") -> NDArray[np.uint8]:
    """Pixels of an encoded picture, uint8 `[H, W, 3]`.

    Args:
        data: A whole file, in any format that Pillow reads.
        name: What messages call it.

    Raises:
        DamagedError: The bytes are no picture, or only part of one.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DamagedError(name, f"cannot be read as a picture ({error})") from error


def _png(image: Image.Image, spec: ImageSpec, metadata: PictureMetadata) -> bytes:
    target = io.BytesIO()
    image.save(
        target,
        "PNG",
        compress_level=spec.png_level,
        compress_type=spec.png_strategy,
        pnginfo=png_info(metadata),
    )
    return target.getvalue()


FORMATS: Mapping[str, Callable[[Image.Image, ImageSpec, PictureMetadata], bytes]] = {"png": _png}
"""Format to its encoder."""

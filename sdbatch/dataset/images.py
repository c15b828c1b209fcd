"""Pixels to bytes and back.

What is hashed, measured and encoded are the same pixels: those that were drawn, resized where
the plan says so. Files hold no clock and no host name, so that the same pixels give the same
bytes on every attempt.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sdbatch.dataset.encoders import FORMATS, register_reader
from sdbatch.dataset.picture_metadata import PictureMetadata
from sdbatch.dataset.quality import Quality, quality_of
from sdbatch.errors import DamagedError, JobError, RenderError
from sdbatch.output_specs import ImageSpec

NO_METADATA = PictureMetadata()


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A picture as it is stored.

    Attributes:
        format: `png`, ...; also the ending of its file name.
        sha256: Of `data`.
        pixel_sha256: Of the raw pixels that were encoded, whatever the format keeps of them.
        quality: What they say of the picture.
    """

    data: bytes
    format: str
    width_px: int
    height_px: int
    sha256: str
    pixel_sha256: str
    quality: Quality


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
    pixels = fitted(pixels, spec)
    picture = Image.fromarray(pixels)
    data = FORMATS[spec.format](picture, spec, metadata)
    height, width, _ = pixels.shape
    return EncodedImage(
        data=data,
        format=spec.format,
        width_px=width,
        height_px=height,
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(pixels),
        quality=quality_of(picture),
    )


def fitted(pixels: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    """Pixels as they are encoded: drawn ones, resized by Lanczos to the plan's `save_size`."""
    height, width, _ = pixels.shape
    size = spec.size(width, height)
    pixels = np.ascontiguousarray(pixels)
    if size == (width, height):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def pixel_sha256(pixels: NDArray[np.uint8]) -> str:
    """Hash of the raw RGB bytes, row by row: equal pictures, equal hash, in any format."""
    return hashlib.sha256(np.ascontiguousarray(pixels).reshape(-1).data).hexdigest()


def picture_size(data: bytes, name: str = "picture") -> tuple[int, int]:
    """(width, height) from the header of an encoded picture; no pixel is decoded.

    Raises:
        DamagedError: The bytes are no picture.
    """
    with _opened(data, name) as image:
        return image.size


def decode(data: bytes, name: str = "picture") -> NDArray[np.uint8]:
    """Pixels of an encoded picture, uint8 `[H, W, 3]`.

    Args:
        data: A whole file, in any format that Pillow reads, JPEG XL with its plugin.
        name: What messages call it.

    Raises:
        DamagedError: The bytes are no picture, or only part of one.
    """
    with _opened(data, name) as image:
        return np.asarray(image.convert("RGB"))


def keeps_pixels(data: bytes) -> bool:
    """Whether a file says of itself that it holds the very pixels that were encoded.

    True of PNG and lossless WebP. A lossless JPEG XL cannot be told from a lossy one.
    """
    if data.startswith(b"\x89PNG"):
        return True
    return data[:4] == b"RIFF" and b"VP8L" in _riff_chunks(data)


def _riff_chunks(data: bytes) -> Iterator[bytes]:
    """Names of the chunks of a WebP file, whose contents are padded to whole words."""
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    if lacks := register_reader(data):
        raise DamagedError(name, lacks)
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, RuntimeError) as error:
        raise DamagedError(name, f"cannot be read as a picture ({error})") from error

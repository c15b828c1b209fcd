"""Pictures of strangers: judged by their header before a single pixel is decoded.

The header is read by hand, because a decoder may set memory aside for whatever size a file
claims as soon as it opens it. Three formats, one frame, a cap on pixels; what passes is decoded
by Pillow, held to that very format.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sdbatch.errors import InputPictureError

MAX_PIXELS = 64 * 1024 * 1024
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


class PictureFacts(NamedTuple):
    """What the header of a picture says; sizes in pixels, before any rotation it asks for."""

    format: str
    width: int
    height: int


def check_picture(data: bytes, uri: str = "picture", max_pixels: int = MAX_PIXELS) -> PictureFacts:
    """Format and size of a picture that may be decoded: PNG, JPEG or WebP, one frame.

    Args:
        data: The whole file.
        uri: What to call it in an error.
        max_pixels: Most pixels that it may claim to have.

    Raises:
        InputPictureError: It is no such picture, or too large.
    """
    try:
        facts, frames = _header(data)
    except (struct.error, IndexError) as error:
        raise InputPictureError(uri, "its header is cut short or damaged") from error
    if facts is None:
        raise InputPictureError(uri, "is neither PNG, JPEG nor WebP")
    if facts.width < 1 or facts.height < 1:
        raise InputPictureError(uri, f"claims to have {facts.width}x{facts.height} pixels")
    if facts.width * facts.height > max_pixels:
        raise InputPictureError(
            uri, f"has {facts.width:,}x{facts.height:,} pixels, at most {max_pixels:,} are allowed"
        )
    if frames != 1:
        raise InputPictureError(uri, "is animated, a single picture is needed")
    return facts


def decode_picture(
    data: bytes, uri: str = "picture", max_pixels: int = MAX_PIXELS, mode: str = "RGB"
) -> NDArray[np.uint8]:
    """Pixels of a checked picture, turned upright: uint8 `[H, W, 3]`, or `[H, W]` for mode `L`.

    Raises:
        InputPictureError: As `check_picture`, or the file ends early or is damaged.
    """
    facts = check_picture(data, uri, max_pixels)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's cap is a warning; ours has been held to
            with Image.open(io.BytesIO(data), formats=[facts.format.upper()]) as opened:
                if opened.size != (facts.width, facts.height):
                    raise InputPictureError(uri, "its header contradicts itself")
                return np.array(_eight_bits(opened).convert(mode), dtype=np.uint8)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputPictureError(uri, "cannot be decoded") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputPictureError(uri, f"cannot be decoded ({said})") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """The picture upright, its 16-bit greys halved in depth: Pillow would clip them instead."""
    upright = ImageOps.exif_transpose(picture) or picture
    if not upright.mode.startswith("I"):
        return upright
    return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))


def _header(data: bytes) -> tuple[PictureFacts | None, int]:
    """(facts, frames); no facts when the first bytes are of another format."""
    if data.startswith(PNG_SIGNATURE):
        return _png(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data), 1
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    return None, 1


def _png(data: bytes) -> tuple[PictureFacts, int]:
    if data[12:16] != b"IHDR":
        raise IndexError("no IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    frames = 1
    for name, start in _png_chunks(data):
        if name == b"acTL":
            (frames,) = struct.unpack_from(">I", data, start)
        if name == b"IDAT":
            break
    return PictureFacts("png", width, height), frames


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    place = len(PNG_SIGNATURE)
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, place + 8
        place += 12 + length


def _jpeg(data: bytes) -> PictureFacts:
    place = 2
    while True:
        while data[place] != 0xFF:  # a decoder passes over garbage too
            place += 1
        while data[place] == 0xFF:
            place += 1
        marker, place = data[place], place + 1
        if marker in _NO_LENGTH:
            continue
        if marker in _START_OF_FRAME:
            height, width = struct.unpack_from(">HH", data, place + 3)
            return PictureFacts("jpeg", width, height)
        if marker in (0xD9, 0xDA):
            raise IndexError("pixels before their size")
        place += struct.unpack_from(">H", data, place)[0]


def _webp(data: bytes) -> tuple[PictureFacts, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        _ = data[29]
        return PictureFacts("webp", width, height), 2 if flags & 0x02 else 1
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return PictureFacts("webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return PictureFacts("webp", width & 0x3FFF, height & 0x3FFF), 1
    raise IndexError("no WebP of a known kind")

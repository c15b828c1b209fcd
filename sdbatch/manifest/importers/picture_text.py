"""Texts that programs leave in pictures: PNG text chunks, EXIF comments; no pixel is decoded."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from sdbatch.errors import InputPictureError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".jxl")
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
MAX_TEXT = 4 << 20
_VALUES = "Steps: "
_EXIF, _COMMENT = 0x8769, 0x9286
_BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(NotImplementedError, OverflowError, RecursionError, EOFError, struct.error, zlib.error),
    Image.DecompressionBombError,
)
"""What Pillow raises on files that are broken in one way or another."""


@dataclass(frozen=True, slots=True)
class PictureTexts:
    """What a picture says of itself.

    Attributes:
        width_px: From its header.
        height_px: Likewise.
        infotext: A1111's; empty when there is none.
        comfyui: ComfyUI's API prompt in JSON; empty when there is none.
    """

    width_px: int
    height_px: int
    infotext: str = ""
    comfyui: str = ""


def read_texts(path: Path) -> PictureTexts:
    """Texts of a PNG, JPEG, WebP, AVIF or JPEG XL file, the last with its plugin of Pillow.

    Raises:
        InputPictureError: It cannot be read, is no picture, or its texts are too long.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jxl = path.suffix.lower() == ".jxl"
            if jxl:
                _register_jxl(path)
            with Image.open(path, formats=("JXL",) if jxl else FORMATS) as image:
                info, size = dict(image.info), image.size
                # EXIF of a PNG may lie behind its pixels, which would be decoded on the way.
            comment = "" if image.format == "PNG" else _comment(image)
    except _BROKEN as error:
        reason = f"cannot be read as a picture ({' '.join(str(error).split())[:120]})"
        raise InputPictureError(str(path), reason) from error
    infotext, graph = _text(info.get("parameters")) or comment, _text(info.get("prompt"))
    if max(len(infotext), len(graph)) > MAX_TEXT:
        raise InputPictureError(str(path), f"its texts are longer than {MAX_TEXT >> 20} MiB")
    return PictureTexts(*size, infotext, graph if graph.lstrip().startswith("{") else "")


def _text(value: Any) -> str:
    """A text chunk; one that was written as UTF-8 under a Latin-1 name is read as UTF-8."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        return ""
    text = str(value)
    try:
        return text if text.isascii() or hasattr(value, "lang") else text.encode("latin-1").decode()
    except UnicodeError:
        return text


def _comment(image: Image.Image) -> str:
    value = image.getexif().get_ifd(_EXIF).get(_COMMENT)
    if isinstance(value, str):
        value = value.encode("latin-1", "replace")
    if not isinstance(value, bytes) or len(value) <= 8:
        return ""
    code, data = value[:8].rstrip(b"\0 "), value[8:]
    if code == b"UNICODE":
        return _utf16(data).rstrip("\0")
    if code in (b"ASCII", b""):
        return data.decode("utf-8", "backslashreplace").rstrip("\0")
    return value.decode("utf-8", "backslashreplace").rstrip("\0")


def _utf16(data: bytes) -> str:
    """The order of the bytes is that of whoever wrote them; ours have the high byte first."""
    orders = [data.decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
    for text in orders:
        if _VALUES in text:
            return text
    return orders[data[1::2].count(0) > data[::2].count(0)]  # blanks and ASCII tell it


def _register_jxl(path: Path) -> None:
    try:
        import_module("pillow_jxl")
    except ImportError as error:
        reason = "is JPEG XL, which needs pip install 'sdbatch[jxl]'"
        raise InputPictureError(str(path), reason) from error

"""Pictures to files, a function for each format.

Files hold no clock and no host name, and every encoder runs on one thread, for the tiles of
AVIF follow from the number of threads: the same pixels give the same bytes on every attempt.
Efforts are those after which a format stops gaining much for its time. Which settings a format
has is known to `plan/image_settings.py`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, features

from sdbatch.dataset import png_writer
from sdbatch.dataset.picture_metadata import PictureMetadata, exif_bytes, png_info
from sdbatch.errors import JobError
from sdbatch.output_specs import FAST, ImageSpec

Encoder = Callable[[Image.Image, ImageSpec, PictureMetadata], bytes]

_JXL_PLUGIN = "pillow_jxl"
_JXL_STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")
_SUBSAMPLING = {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4"}
_JPEG_EXIF = 65_533 - len(b"Exif\0\0")
"""A JPEG segment holds no more; a longer request stands in the columns alone."""


def missing(spec: ImageSpec) -> str:
    """What this installation lacks to write such pictures; empty when it can."""
    if spec.format in ("webp", "avif") and not features.check(spec.format):
        return f"Pillow here was built without {spec.format}: pip install 'pillow>=11.3'"
    if spec.format == "jxl" and find_spec(_JXL_PLUGIN) is None:
        return "JPEG XL needs a plugin for Pillow: pip install 'sdbatch[jxl]'"
    if spec.format == "png" and spec.png_level == FAST and not png_writer.AVAILABLE:
        return "fast PNG needs two libraries: pip install isal zlib-ng"
    return ""


def demand_encoder(spec: ImageSpec) -> None:
    """Refuse what cannot be written here.

    Raises:
        JobError: A library is missing.
    """
    if lacks := missing(spec):
        raise JobError(f"image.format: {spec.format}: {lacks}")


def register_reader(data: bytes) -> str:
    """Make Pillow able to open this file, if it needs a plugin; says what is missing for it."""
    if not data.startswith(_JXL_STARTS):
        return ""
    if find_spec(_JXL_PLUGIN) is None:
        return "is JPEG XL, which needs pip install 'sdbatch[jxl]'"
    import_module(_JXL_PLUGIN)
    return ""


def _png(image: Image.Image, spec: ImageSpec, metadata: PictureMetadata) -> bytes:
    info = png_info(metadata)
    if spec.png_level == FAST:
        chunks = [(chunk[0], chunk[1]) for chunk in info.chunks] if info else []
        return png_writer.write_png(np.asarray(image), chunks)
    return _saved(
        image,
        "PNG",
        compress_level=spec.png_level,
        compress_type=spec.png_strategy,
        pnginfo=info,
    )


def _jpeg(image: Image.Image, spec: ImageSpec, metadata: PictureMetadata) -> bytes:
    exif = exif_bytes(metadata)
    said = _said(exif if len(exif) <= _JPEG_EXIF else b"", metadata)
    chroma = _SUBSAMPLING[spec.chroma]
    return _saved(image, "JPEG", quality=spec.quality, subsampling=chroma, optimize=True, **said)


def _webp(image: Image.Image, spec: ImageSpec, metadata: PictureMetadata) -> bytes:
    how = {"quality": spec.quality, "method": 4}
    if spec.lossless:
        how = {"lossless": True, "quality": 100, "method": 0}
    return _saved(image, "WEBP", **how, **_said(exif_bytes(metadata), metadata))


def _avif(image: Image.Image, spec: ImageSpec, metadata: PictureMetadata) -> bytes:
    how = {"quality": spec.quality, "subsampling": _SUBSAMPLING[spec.chroma]}
    said = _said(exif_bytes(metadata), metadata)
    return _saved(image, "AVIF", speed=8, max_threads=1, **how, **said)


def _jxl(image: Image.Image, spec: ImageSpec, metadata: PictureMetadata) -> bytes:
    import_module(_JXL_PLUGIN)  # registers itself with Pillow
    how = {"lossless": True} if spec.lossless else {"quality": spec.quality}
    said = _said(exif_bytes(metadata), metadata)
    return _saved(image, "JXL", effort=3, num_threads=1, **how, **said)


def _said(exif: bytes, metadata: PictureMetadata) -> dict[str, bytes]:
    """What the file carries, as arguments of Pillow."""
    said = {"exif": exif, "xmp": metadata.xmp.encode()}
    return {name: content for name, content in said.items() if content}


def _saved(image: Image.Image, name: str, **how: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, name, **how)
    return target.getvalue()


FORMATS: Mapping[str, Encoder] = {
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "avif": _avif,
    "jxl": _jxl,
}
"""Format to its encoder."""

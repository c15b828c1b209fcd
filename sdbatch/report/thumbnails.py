"""Small copies of pictures, for pages that must not grow with the dataset."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from sdbatch.dataset.images import decode

THUMBNAIL_PX = 256
QUALITY = 74


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small copy of a picture.

    Attributes:
        url: The picture itself, as a `data:` URL.
    """

    url: str
    width_px: int
    height_px: int


def thumbnail(data: bytes, name: str) -> Thumbnail:
    """A copy of an encoded picture, its longer side at most `THUMBNAIL_PX`.

    Args:
        data: A whole file, in any format that Pillow reads.
        name: What messages call it.

    Raises:
        DamagedError: The bytes are no picture.
    """
    picture = Image.fromarray(decode(data, name))
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = io.BytesIO()
    picture.save(target, "WEBP", quality=QUALITY, method=2)
    text = base64.b64encode(target.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/webp;base64,{text}", picture.width, picture.height)

"""How pictures and files are to be stored: the part of a plan that readers see.

Nouns as in `records.py`, which holds all others.
"""

from __future__ import annotations

from dataclasses import dataclass

FAST = "fast"
"""Stands in the place of a PNG level for `dataset/png_writer.py`."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """How pictures are encoded, and what they say of themselves.

    Attributes:
        format: One of `encoders.FORMATS`.
        png_level: Pillow's 0 to 9, or `FAST`, our own writer.
        metadata: One of `picture_metadata.LEVELS`; plans made before there was a choice
            have `none`.
        quality: Of a lossy file, 1 to 100; 0 where the format has none.
        lossless: A format that can be either keeps every pixel.
        chroma: `420`, `422` or `444`; empty where the format has none.
        save_size: `WxH`, to which pictures are resized before they are encoded; empty for
            the size that was drawn.
    """

    format: str = "png"
    png_level: int | str = 1
    png_strategy: int = 3
    metadata: str = "none"
    quality: int = 0
    lossless: bool = False
    chroma: str = ""
    save_size: str = ""

    @property
    def keeps_pixels(self) -> bool:
        """Whether files hold exactly the pixels that were encoded."""
        return self.lossless or self.format == "png"

    def size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """(width, height) of the file of a picture drawn at this size."""
        if not self.save_size:
            return width_px, height_px
        width, _, height = self.save_size.partition("x")
        return int(width), int(height)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """How the files of a dataset are laid out.

    Attributes:
        format: `parquet`, `webdataset` or `files`, as in `dataset/layouts.py`.
        captions: `txt` puts the prompt beside each picture; empty for nothing.
    """

    format: str = "parquet"
    captions: str = ""

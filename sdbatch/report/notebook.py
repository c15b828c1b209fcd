"""Pictures of a dataset as a notebook shows them: a grid, each with its prompt below.

Texts are escaped and the pictures are in the markup itself: nothing runs, nothing is fetched.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from markupsafe import Markup
from PIL import Image

from sdbatch.dataset.images import decode
from sdbatch.dataset.sheet import contact_sheet
from sdbatch.report.thumbnails import thumbnail

SHOWN = 64
"""Most pictures of a grid; the others are counted."""
CAPTION_CHARS = 160

_GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px"
_CAPTION = "font:12px/1.35 sans-serif;margin-top:4px;overflow-wrap:anywhere"
_CELL = Markup(
    '<div style="min-width:0"><img src="{}" style="width:100%;border-radius:6px" alt="">'
    '<div dir="auto" title="{}" style="{}">{}</div></div>'
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a dataset.

    Attributes:
        data: The stored file, as it is.
        columns: Its row, without the picture.
    """

    key: str
    data: bytes = field(repr=False)
    columns: Mapping[str, Any] = field(repr=False)

    @property
    def prompt(self) -> str:
        """What was asked for."""
        return str(self.columns.get("prompt") or "")

    def image(self) -> Image.Image:
        """The picture for Pillow.

        Raises:
            DamagedError: It cannot be read.
        """
        return Image.fromarray(decode(self.data, f"picture {self.key}"))

    def _repr_png_(self) -> bytes:
        return _png(self.image())


@dataclass(frozen=True, slots=True)
class Pictures(Sequence[Picture]):
    """Some pictures of a dataset, in its order; a notebook shows them as a grid."""

    found: tuple[Picture, ...]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.found)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> Pictures: ...
    def __getitem__(self, index: int | slice) -> Picture | Pictures:
        return Pictures(self.found[index]) if isinstance(index, slice) else self.found[index]

    def __repr__(self) -> str:
        return f"<{len(self)} pictures>"

    def sheet(self, columns: int = 4) -> Image.Image:
        """One picture of all of them, labelled.

        Raises:
            InputError: There is none.
            DamagedError: One cannot be read.
        """
        shown = self.found[:SHOWN]
        pixels = ((decode(each.data, f"picture {each.key}"), each.prompt) for each in shown)
        return contact_sheet(list(pixels), columns)

    def _repr_png_(self) -> bytes | None:
        return _png(self.sheet()) if self.found else None

    def _repr_html_(self) -> str:
        cells = Markup("").join(map(_cell, self.found[:SHOWN]))
        more = len(self) - SHOWN
        rest = Markup("<p>and {} more</p>").format(f"{more:,}") if more > 0 else Markup("")
        empty = Markup("") if self.found else Markup("<p>no pictures</p>")
        grid = Markup('<div style="{}">{}</div>').format(_GRID, cells)
        return str(grid + rest + empty)


def _cell(picture: Picture) -> Markup:
    url = thumbnail(picture.data, f"picture {picture.key}").url
    prompt = picture.prompt
    short = prompt if len(prompt) <= CAPTION_CHARS else f"{prompt[:CAPTION_CHARS]}…"
    return _CELL.format(url, picture.key, _CAPTION, short)


def _png(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    picture.save(target, "PNG", compress_level=3)
    return target.getvalue()

"""What all pictures for people share: paper, ink, and how they reach a local disk."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from PIL import Image

from sdbatch.errors import StorageError

PAPER, INK, FRAME = (250, 250, 248), (52, 52, 56), (222, 222, 218)


def save_png(picture: Image.Image, path: Path) -> str:
    """Write a picture to a local file, its folder made if absent; returns the path.

    Raises:
        StorageError: The path cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, "PNG")
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: {reason}: name a place that can be written") from error
    return str(path)


def printable(text: str) -> str:
    """One line in the letters of Pillow's font: no accents, no silent or broken characters."""
    letters = "".join(_letter(c) for c in text)
    return " ".join(letters.split())


def _letter(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    kind = unicodedata.category(character)
    if kind in ("Cc", "Cf", "Cs", "Mn"):
        return ""
    if kind == "Pd":
        return "-"
    plain = unicodedata.normalize("NFKD", character)
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    return bare if bare.isascii() else character

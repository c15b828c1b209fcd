"""Lines of a text file, with their numbers; bounded, and refused when they are no text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdbatch.errors import ManifestError

MAX_LINE_CHARACTERS = 4 << 20
MAX_WHOLE_BYTES = 64 << 20
"""Largest file that is read in one piece."""


def numbered_lines(path: str) -> Iterator[tuple[int, str]]:
    """(number from 1, line without its end) of a UTF-8 file.

    Raises:
        ManifestError: It cannot be read, is no UTF-8 text or has an endless line.
    """
    number = 0
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            while line := file.readline(MAX_LINE_CHARACTERS + 1):
                number += 1
                if len(line) > MAX_LINE_CHARACTERS:
                    reason = f"line {number} is longer than {MAX_LINE_CHARACTERS:,} characters"
                    raise ManifestError(path, -1, "", "", reason)
                yield number, line.rstrip("\n")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text after line {number}, re-encode it"
        raise ManifestError(path, -1, "", "", reason) from error
    except OSError as error:
        raise ManifestError(path, -1, "", "", f"cannot be read: {error.strerror}") from error


def whole_text(path: str) -> str:
    """The text of a UTF-8 file.

    Raises:
        ManifestError: It cannot be read, is too large or is no UTF-8 text.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_WHOLE_BYTES + 1)
    except OSError as error:
        raise ManifestError(path, -1, "", "", f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_WHOLE_BYTES:
        raise ManifestError(path, -1, "", "", f"is larger than {MAX_WHOLE_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ManifestError(path, -1, "", "", f"line {line} is not UTF-8 text") from error

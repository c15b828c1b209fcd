"""Files of templates: one a line; blank lines and lines that begin with `#` are passed over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdbatch.errors import ManifestError
from sdbatch.manifest.local_copy import is_remote
from sdbatch.manifest.templates import Lines, TemplateLine

MAX_LINE_CHARACTERS = 1 << 20


def template_lines(text_or_path: str) -> Lines:
    """Templates of a file where the text is the path of one, or the text as the one template.

    Raises:
        ManifestError: It looks like a path, and nothing is there.
    """
    path = Path(text_or_path)
    if "\n" not in text_or_path and "\0" not in text_or_path and _is_file(path):
        return lambda: _read(path)
    if path.suffix == ".txt" and not set(text_or_path) & set("{$ "):
        raise ManifestError(text_or_path, -1, "", "", "no such file of templates")
    return lambda: iter([TemplateLine(text_or_path, "template", 1)])


def names_remote_file(text: str) -> bool:
    """Whether a text is the URL of a file of templates rather than a template."""
    return is_remote(text) and not set(text) & set("{}$ \n")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a template is longer than any name may be
        return False


def _read(path: Path) -> Iterator[TemplateLine]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            while line := file.readline(MAX_LINE_CHARACTERS + 1):
                number += 1
                if len(line) > MAX_LINE_CHARACTERS:
                    reason = f"line {number} is longer than {MAX_LINE_CHARACTERS:,} characters"
                    raise ManifestError(str(path), -1, "", "", reason)
                text = line.rstrip("\n")
                if text.strip() and not text.lstrip().startswith("#"):
                    yield TemplateLine(text, str(path), number)
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text after line {number}, re-encode it"
        raise ManifestError(str(path), -1, "", "", reason) from error
    except OSError as error:
        raise ManifestError(str(path), -1, "", "", f"cannot be read: {error.strerror}") from error

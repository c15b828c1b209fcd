"""Pictures and folders of them as rows: what they were drawn from, or what to draw from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from sdbatch.errors import InputPictureError, ManifestError
from sdbatch.manifest.importers.comfyui import graph_rows
from sdbatch.manifest.importers.infotext_rows import infotext_row
from sdbatch.manifest.importers.picture_text import ENDINGS, PictureTexts, read_texts
from sdbatch.manifest.importers.row import Row, as_text, keep
from sdbatch.manifest.importers.text_lines import whole_text

PromptFrom = Literal["metadata", "txt", "filename", "none"]
TASKS = ("image2image", "upscale", "colorize")
FILE = "source_file"
_KEPT = ("prompt", "negative_prompt", "prompt_syntax")


def picture_rows(source: str, prompt_from: PromptFrom = "metadata") -> Iterator[Row]:
    """One row for each picture that tells what it was drawn from, in the order of their paths.

    Args:
        source: A picture, or a folder that is walked.
        prompt_from: `metadata` for all settings that a picture carries; the others give a
            prompt alone.

    Raises:
        ManifestError: There is no picture, or one says nothing.
        InputPictureError: A picture is broken.
    """
    for path, name in _pictures(source):
        texts = read_texts(path)
        for row in _described(path, texts, prompt_from):
            row[FILE] = as_text(name)
            yield row


def task_rows(source: str, task: str, prompt_from: PromptFrom) -> Iterator[Row]:
    """One row for each picture that is to be worked on: its path in `image`, and the task.

    Of what a picture says of itself only the prompts are taken; the rest stays beside them.

    Raises:
        ManifestError: There is no picture, or one has no prompt where one is asked for.
        InputPictureError: A picture is broken.
    """
    for path, name in _pictures(source):
        texts = read_texts(path)
        described = next(iter(_described(path, texts, prompt_from)))
        row: Row = {"prompt": "", "task": task, "image": as_text(str(path.absolute()))}
        for column, value in described.items():
            if column in _KEPT:
                row[column] = value
            else:
                keep(row, column, value, "source_")
        row[FILE] = as_text(name)
        yield row


def _described(path: Path, texts: PictureTexts, prompt_from: PromptFrom) -> Iterator[Row]:
    if prompt_from == "none":
        yield {"prompt": ""}
    elif prompt_from == "filename":
        yield {"prompt": as_text(path.stem.replace("_", " ").strip())}
    elif prompt_from == "txt":
        beside = path.with_suffix(".txt")
        yield {"prompt": as_text(whole_text(str(beside)).strip())}
    elif texts.infotext:
        yield infotext_row(texts.infotext)
    elif texts.comfyui:
        yield from graph_rows(texts.comfyui, str(path))
    else:
        reason = "carries no prompt, choose --prompt-from txt, filename or none"
        raise InputPictureError(str(path), reason)


def _pictures(source: str) -> Iterator[tuple[Path, str]]:
    """(path, name below the source) of every picture."""
    root = Path(source)
    if root.is_file():
        yield root, root.name
        return
    found = False
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(ENDINGS):
                found = True
                path = Path(folder, name)
                yield path, path.relative_to(root).as_posix()
    if not found:
        reason = f"holds no picture ({', '.join(ENDINGS)})"
        raise ManifestError(source, -1, "", "", reason)

"""Models by bare name in the folders that people already have: A1111's, ComfyUI's, any other.

A1111 keeps checkpoints under `models/Stable-diffusion`, ComfyUI under `models/checkpoints`
and diffusers folders under `models/diffusers`. The folder that is named may be the program's,
its `models`, or one that holds nothing but models. Nothing is opened here: names decide.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sdbatch.errors import ModelError

MODELS_VARIABLE = "SDBATCH_MODELS"
FOLDER, FILE, PICKLE = "folder", "file", "pickle"
SUFFIX = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
CONFIG_SUFFIX = ".config"
"""A folder of this name beside a file holds its configuration and is no model of its own."""
INDEX = "model_index.json"
SHELVES = ("stable-diffusion", "checkpoints", "diffusers")
"""Folders, in small letters, that A1111 and ComfyUI keep whole models in."""
NAMED_AT_MOST = 5


class FoundModel(NamedTuple):
    """A model that can be named.

    Attributes:
        name: Path below its shelf with `/`, a file's with its extension.
        path: Where it lies.
        kind: `folder` (diffusers), `file` (safetensors) or `pickle` (shown, never loaded).
    """

    name: str
    path: Path
    kind: str


def found_models(folder: str | Path) -> Iterator[FoundModel]:
    """Every model below a folder, shelf by shelf, each in order of its name.

    Args:
        folder: A1111's or ComfyUI's folder, its `models`, or any other folder of models.
    """
    seen: set[tuple[int, int]] = set()
    for shelf in _shelves(Path(folder).expanduser()):
        yield from _walk(shelf, shelf, seen)


def resolve_name(name: str, folder: str | Path) -> Path | None:
    """The one model of that name below a folder; None where there is none.

    Args:
        name: As `found_models` names it or the end of that, letters in either case, with or
            without the extension.
        folder: As `found_models` takes it.

    Raises:
        ModelError: Several models have that name.
    """
    matches = [found for found in found_models(folder) if _is_called(found.name, name)]
    exact = [found for found in matches if _is_called(found.name, name, exact=True)]
    chosen = exact or matches
    chosen = [found for found in chosen if found.kind != PICKLE] or chosen
    if len({found.path.resolve() for found in chosen}) > 1:
        several = ", ".join(str(found.path) for found in chosen[:NAMED_AT_MOST])
        more = f" and {len(chosen) - NAMED_AT_MOST} more" if len(chosen) > NAMED_AT_MOST else ""
        raise ModelError(f"model {name}: could be {several}{more}: name one by its path")
    return chosen[0].path if chosen else None


def near_names(name: str, folders: Sequence[str | Path]) -> list[str]:
    """Names of models in these folders that are like one that is not there, nearest first."""
    known: dict[str, str] = {}
    for folder in folders:
        for found in found_models(folder):
            known.setdefault(_stem(Path(found.name).name).casefold(), found.name)
    wanted = _stem(Path(name).name).casefold()
    near = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
    return [known[match] for match in near]


def models_dirs(models_dir: str = "") -> list[Path]:
    """Folders that bare names are looked up in: the one named, then SDBATCH_MODELS.

    Raises:
        ModelError: The one named is no folder.
    """
    folders = []
    if models_dir:
        folders.append(Path(models_dir).expanduser())
        if not folders[0].is_dir():
            raise ModelError(f"--models-dir {models_dir}: is no folder, name one that holds models")
    home = os.environ.get(MODELS_VARIABLE)
    return [*folders, Path(home).expanduser()] if home else folders


def _is_called(found: str, name: str, *, exact: bool = False) -> bool:
    """Whether a name, or the end of it after a `/`, is the one asked for."""
    asked = name.replace(os.sep, "/").strip("/")
    if not exact:
        found, asked = found.casefold(), asked.casefold()
    return any(one == asked or one.endswith(f"/{asked}") for one in (found, _stem(found)))


def _stem(name: str) -> str:
    """A file's name without an extension that models have; a dot in a folder's stays."""
    for suffix in (SUFFIX, *PICKLES):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _shelves(folder: Path) -> list[Path]:
    """The folders to look through: those of A1111 and ComfyUI, else the whole one."""
    found = []
    for home in (folder, *(below for below in _below(folder) if below.name.lower() == "models")):
        found += [below for below in _below(home) if below.name.lower() in SHELVES]
    return found or [folder]


def _below(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if os.path.isdir(path))
    except OSError:
        return []


def _walk(shelf: Path, folder: Path, seen: set[tuple[int, int]]) -> Iterator[FoundModel]:
    """Models at and below a folder; links are followed, each folder is entered once."""
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError:
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for path in entries:
        name = path.relative_to(shelf).as_posix()
        if path.name.startswith("."):
            continue
        if os.path.isdir(path):  # which asks on where a disk's `lost+found` refuses
            if os.path.isfile(path / INDEX):
                if path.suffix != CONFIG_SUFFIX:
                    yield FoundModel(name, path, FOLDER)
            else:
                yield from _walk(shelf, path, seen)
        elif path.suffix.lower() == SUFFIX:
            yield FoundModel(name, path, FILE)
        elif path.suffix.lower() in PICKLES:
            yield FoundModel(name, path, PICKLE)

"""The Hub's cache on this machine: what lies there, read without asking the network.

The layout is the Hub library's (`refs/`, `snapshots/<commit>/`, `blobs/`), so models that
other programs fetched are used as they lie; HF_HOME and HF_HUB_CACHE say where. Copies in
half precision get a folder of links under plain names, beside it in the library's folder
for assets.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdbatch.errors import ModelError, ModelUnreachableError
from sdbatch.render.weights.hub_address import COMMIT, HALF_MARK
from sdbatch.render.weights.model_files import plain_name

DEAD_AFTER_S = 3600.0
"""A transfer that has written nothing for so long is over; its process was killed."""


def library(module: str) -> Any:
    """A module of the Hub's library, imported only where a model of the Hub is meant.

    Raises:
        ModelError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f"models of the Hub need the package huggingface_hub: {error}") from error


def cache_home() -> Path:
    """Where models of the Hub lie on this machine."""
    return Path(library("huggingface_hub.constants").HF_HUB_CACHE).expanduser()


def assets_home() -> Path:
    """Where what is made of fetched models lies; HF_HOME and HF_ASSETS_CACHE say where."""
    return Path(library("huggingface_hub.constants").HF_ASSETS_CACHE).expanduser() / "sdbatch"


def is_cached(folder: Path) -> bool:
    """Whether a folder lies where fetched models do."""
    return folder.is_relative_to(cache_home()) or folder.is_relative_to(assets_home())


@dataclass(frozen=True, slots=True)
class Repo:
    """A model repository in the cache; it need not be there."""

    name: str

    @property
    def folder(self) -> Path:
        """Everything that was fetched of it."""
        return cache_home() / self.slug

    @property
    def slug(self) -> str:
        """Its name as a folder's."""
        return f"models--{self.name.replace('/', '--')}"

    @property
    def lock(self) -> Path:
        """Held by the one process of this machine that fetches it."""
        return cache_home() / ".locks" / self.slug / "sdbatch.lock"

    def commit(self, revision: str) -> str:
        """The commit that a revision stood for when it was last fetched; empty if it never was."""
        if COMMIT.fullmatch(revision):
            return revision
        with suppress(OSError, UnicodeError):
            found = (self.folder / "refs" / revision).read_text(encoding="utf-8").strip()
            return found if COMMIT.fullmatch(found) else ""
        return ""

    def remember(self, revision: str, commit: str) -> None:
        """Note which commit a branch or tag stands for, as the Hub's library does."""
        if COMMIT.fullmatch(revision) or self.commit(revision) == commit:
            return
        path = self.folder / "refs" / revision
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        part.write_text(commit, encoding="utf-8")
        part.replace(path)

    def snapshot(self, commit: str) -> Path:
        """Files of one commit."""
        return self.folder / "snapshots" / commit

    def sizes(self, commit: str) -> dict[str, int]:
        """Every file of a commit with its size in bytes; empty where no listing is cached."""
        hub = library("huggingface_hub")
        try:
            files = hub.get_cached_repo_tree(self.name, revision=commit)
        except (AttributeError, hub.errors.CachedRepoTreeNotFoundError):
            return {}
        return {file.path: int(file.size) for file in files}

    def lying(self, commit: str) -> dict[str, int]:
        """The files of a commit that are here, with their sizes; a link to nothing is none."""
        folder = self.snapshot(commit)
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}

    def half_folder(self, commit: str) -> Path:
        """Where the half copy of a commit is found under plain names."""
        return assets_home() / self.slug / f"{commit}{HALF_MARK}"

    def link_half(self, commit: str, files: Iterable[str]) -> Path:
        """Make that folder; it appears at once and whole."""
        target = self.half_folder(commit)
        if target.is_dir():
            return target
        link_plain(self.snapshot(commit), target, files)
        return target

    def in_flight(self) -> dict[Path, int]:
        """Files that are being fetched, with the bytes that have arrived."""
        found = {}
        for path in self.folder.glob("blobs/*.incomplete"):
            with suppress(OSError):
                found[path] = path.stat().st_size
        return found

    def sweep(self) -> None:
        """Remove what killed transfers have left; nobody reads it."""
        for path in self.in_flight():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > DEAD_AFTER_S:
                    path.unlink()


def link_plain(source: Path, target: Path, files: Iterable[str]) -> None:
    """A folder of links to files of another one, without the names of their variants.

    Raises:
        ModelUnreachableError: The folder for assets cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ModelUnreachableError(
            f"{target.parent}: {error.strerror or error}: set HF_ASSETS_CACHE to a folder that "
            "can be written to"
        ) from error
    try:
        for file in files:
            link = part / plain_name(file)
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                link.symlink_to(source.resolve() / file)
            except OSError:  # a system that lets only administrators make links
                shutil.copy2(source / file, link)
        with suppress(OSError):  # another process was first, with the same links
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def present(folder: Path, sizes: Mapping[str, int], files: Iterable[str]) -> int:
    """Bytes of those files that are there."""
    return sum(sizes[file] for file in files if (folder / file).is_file())

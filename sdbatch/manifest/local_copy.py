"""Sources on other machines, copied here for as long as they are read.

Readers of templates, wildcards and other programs' files know local paths alone. A URL of any
fsspec file system is fetched to a temporary folder first; what they then say of the copy is
said of the URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from sdbatch.credentials import check_url, redact
from sdbatch.errors import InputError, InputPictureError, ManifestError, StorageError
from sdbatch.manifest.reader import Storage, readable
from sdbatch.remote import file_system, local_path, scheme_of

_FILE = "file://"


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A source that lies on this machine.

    Attributes:
        path: Where it lies now.
        url: Where it came from; the path itself where it was here all the time.
    """

    path: str
    url: str

    def named(self, text: str) -> str:
        """A text about the copy as one about its source."""
        return text if self.path == self.url else text.replace(self.path, self.url)


def is_remote(source: str) -> bool:
    """Whether a source lies on another machine."""
    return bool(scheme_of(source)) and not source.startswith(_FILE)


@contextmanager
def local_copy(source: str, storage: Storage = None) -> Iterator[LocalCopy]:
    """A file or folder on this machine, whatever URL it was.

    Args:
        source: Path or fsspec URL of a file or folder.
        storage: fsspec options of its file system.

    Raises:
        ManifestError: Nothing is there, or it cannot be read.
        StorageError: The store cannot be reached, or the temporary folder is full.
    """
    if not is_remote(source):
        path = local_path(source)
        yield LocalCopy(path, path)
        return
    check_url(source, "source")
    with TemporaryDirectory(prefix="sdbatch-copy-") as folder:
        copy = LocalCopy(_fetch(source, Path(folder).resolve(), storage), source.rstrip("/"))
        with _renamed(copy):
            yield copy


def _fetch(source: str, folder: Path, storage: Storage) -> str:
    with readable(source):
        if "::" in source:
            raise ManifestError(source, -1, "", "", "chained URLs are not read, name the file")
        fs, path = file_system(source, storage, shared=True)
        name = PurePosixPath(source.partition("?")[0].rstrip("/")).name
        target = folder / (name or "source")
        if scheme_of(source) not in ("http", "https") and fs.isdir(path):
            _get_folder(fs, path.rstrip("/"), target)
        else:
            _get_file(fs, path, target)
    return str(target)


def _get_folder(fs: Any, root: str, target: Path) -> None:
    target.mkdir()
    for path, entry in sorted(fs.find(root, detail=True).items()):
        name = path.removeprefix(root).lstrip("/")
        place = (target / name).resolve()
        if not place.is_relative_to(target) or entry["type"] != "file":
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        _get_file(fs, path, place)


def _get_file(fs: Any, path: str, target: Path) -> None:
    with fs.open(path, "rb") as source:
        try:
            sink = target.open("xb")
        except OSError as error:
            raise StorageError(f"{target}: cannot be written: {error}") from error
        with sink:
            while piece := source.read(1 << 20):
                _write(sink, piece, target)


def _write(sink: Any, piece: bytes, target: Path) -> None:
    try:
        sink.write(piece)
    except OSError as error:
        words = f"{os.path.dirname(target)}: {error}, make room there or set TMPDIR"
        raise StorageError(words) from error


@contextmanager
def _renamed(copy: LocalCopy) -> Iterator[None]:
    """Errors about the copy as errors about its source."""
    try:
        yield
    except ManifestError as error:
        name, reason = copy.named(error.file), copy.named(error.reason)
        raise ManifestError(name, error.row, error.column, error.value, reason) from error
    except InputPictureError as error:
        raise type(error)(copy.named(error.uri), copy.named(error.reason)) from error
    except InputError as error:
        raise InputError(redact(copy.named(str(error)))) from error

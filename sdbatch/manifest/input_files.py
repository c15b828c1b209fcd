"""Whether the files that rows point to are there, asked with as few requests as it takes.

A folder is listed once for all of its files: a million pictures in ten folders are ten
requests, on a disk and in a bucket alike. Where a listing is not believed (a store that lists
late, a folder that one may not list), every file is asked for itself. On demand every file is
opened and its first bytes are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.credentials import redact
from sdbatch.errors import InputError, InputPictureError, ManifestError, StorageError
from sdbatch.manifest.faults import Faults, always
from sdbatch.manifest.schema import blank, is_text
from sdbatch.manifest.texts import broken_texts
from sdbatch.remote import file_system, scheme_of

KEPT_FOLDERS = 256
"""Listings that are held at a time."""
INPUT_COLUMNS = ("image", "mask_image", "control_image")
"""Columns of paths and URLs of pictures."""
NETWORK = ("http", "https")
HEAD_BYTES = 64
GONE = "no such file, correct the path or remove the row"
_MARKS = ((0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff"), (8, b"WEBP"))


class InputFiles:
    """Looks up input files of rows, batch after batch.

    Args:
        storage: fsspec options of the file system that holds them.
        every_file: Open each file and read its first bytes instead of listing its folder.
        fetch: Gets what an http address holds, under the rules that workers fetch by; None
            does not ask servers.
    """

    def __init__(
        self,
        storage: Mapping[str, Any] | None = None,
        *,
        every_file: bool = False,
        fetch: Callable[[str], bytes] | None = None,
    ) -> None:
        self._storage, self._every_file, self._fetch = storage, every_file, fetch
        self._listed: dict[str, frozenset[str] | None] = {}

    def missing(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Mask of values that name a file which is not there; empty ones name none.

        Raises:
            StorageError: A store cannot be reached.
        """
        found = np.zeros(len(column), np.bool_)
        for mask, _ in self._wrong(column):
            found |= mask
        return found

    def faults(
        self, manifest: str, name: str, column: pa.ChunkedArray, first_row: int
    ) -> Iterator[ManifestError]:
        """The missing files of some rows, as problems.

        Raises:
            StorageError: A store cannot be reached.
        """
        found = Faults(manifest)
        self.mark(name, column, first_row, found)
        yield from found.first()

    def mark(self, name: str, column: pa.ChunkedArray, first_row: int, faults: Faults) -> None:
        """Mark every value that names no file that can be read.

        Raises:
            StorageError: A store cannot be reached.
        """
        for mask, reason in self._wrong(column):
            faults.mark(mask, first_row, name, column, always(reason))

    def _wrong(self, column: pa.ChunkedArray) -> Iterator[tuple[NDArray[np.bool_], str]]:
        """Masks of values that have one thing wrong with them, and what that is."""
        coded = column.cast(pa.string()).combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        stated = ~blank(column).to_numpy()
        codes = np.asarray(coded.indices.fill_null(0))
        places: dict[str, list[int]] = {}
        for place, url in enumerate(coded.dictionary.to_pylist()):
            reason = self._fault(url)
            if reason:
                places.setdefault(reason, []).append(place)
        for reason, found in places.items():
            yield stated & np.isin(codes, found), reason

    def _fault(self, url: str) -> str:
        """Why a row cannot point there; empty when it can."""
        if not url:
            return ""
        if scheme_of(url) in NETWORK:  # a server's folders are no listings
            return self._fetch_fault(url) if self._every_file else ""
        if "::" in url or not url.isprintable():
            return "is no plain path or URL"
        try:
            fs, path = file_system(url, self._storage, shared=True)
            if self._every_file:
                return _head_fault(fs, path)
            return "" if self._is_there(fs, path, url) else GONE
        except (InputError, ImportError, ValueError) as error:
            return f"cannot be looked for: {_line(error)}"
        except OSError as error:
            raise StorageError(f"{url}: cannot be looked for: {_line(error)}") from error

    def _fetch_fault(self, url: str) -> str:
        if self._fetch is None:
            return ""
        try:
            return _picture_fault(self._fetch(url))
        except InputPictureError as error:
            return redact(error.reason)

    def _is_there(self, fs: Any, path: str, url: str) -> bool:
        folder, _, name = path.rstrip("/").rpartition("/")
        key = url[: len(url) - len(os.path.basename(url))] or "."
        if key not in self._listed:
            if len(self._listed) >= KEPT_FOLDERS:
                self._listed.clear()
            self._listed[key] = _files_of(fs, folder)
        names = self._listed[key]
        return bool(fs.isfile(path)) if names is None else name in names


def mark_files(table: pa.Table, first_row: int, faults: Faults, files: InputFiles) -> None:
    """Mark every file that rows point to and that is not there.

    Args:
        table: Any columns; only those of `INPUT_COLUMNS` that hold texts are looked at.
        first_row: Position of the first row in the manifest.
        faults: Takes them in.
        files: Looks them up.
    """
    for name in INPUT_COLUMNS:
        if name not in table.column_names:
            continue
        column = table.column(name)
        if is_text(column.type) and not broken_texts(column).any():
            files.mark(name, column, first_row, faults)


def _head_fault(fs: Any, path: str) -> str:
    """Why the beginning of a file cannot be read as that of a picture; empty when it can."""
    try:
        if not fs.isfile(path):
            return GONE
        with fs.open(path, "rb", block_size=HEAD_BYTES) as file:
            head = bytes(file.read(HEAD_BYTES))
    except FileNotFoundError:
        return GONE
    except PermissionError:
        return "may not be read, check its permissions"
    return _picture_fault(head)


def _picture_fault(head: bytes) -> str:
    """Why a file that begins so is no picture; empty when it may be one."""
    if not head:
        return "is an empty file"
    known = any(head[at : at + len(mark)] == mark for at, mark in _MARKS)
    return "" if known else "is no PNG, JPEG or WebP picture"


def _line(error: Exception) -> str:
    return redact(" ".join(str(error).split()))


def _files_of(fs: Any, folder: str) -> frozenset[str] | None:
    """Names of the files of a folder; None when it may not be listed."""
    try:
        entries = fs.ls(folder or "/", detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except PermissionError:
        return None
    return frozenset(
        entry["name"].rstrip("/").rpartition("/")[2]
        for entry in entries
        if entry["type"] != "directory"
    )

"""Whether the files that rows point to are there, asked with as few requests as it takes.

A folder is listed once for all of its files: a million pictures in ten folders are ten
requests, on a disk and in a bucket alike. Where a listing is not believed (a store that lists
late, a folder that one may not list), every file is asked for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.schema import blank
from sdbatch.remote import file_system

KEPT_FOLDERS = 256
"""Listings that are held at a time."""


class InputFiles:
    """Looks up input files of rows, batch after batch.

    Args:
        storage: fsspec options of the file system that holds them.
        every_file: Ask for each file itself instead of listing its folder.
    """

    def __init__(
        self, storage: Mapping[str, Any] | None = None, *, every_file: bool = False
    ) -> None:
        self._storage, self._every_file = storage, every_file
        self._listed: dict[str, frozenset[str] | None] = {}

    def missing(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Mask of values that name a file which is not there; empty ones name none.

        Raises:
            StorageError: A store cannot be reached.
        """
        stated = ~blank(column).to_numpy()
        coded = column.cast(pa.string()).combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        gone = np.array([not self._is_there(url) for url in coded.dictionary.to_pylist()], np.bool_)
        found = np.zeros(len(column), np.bool_)
        if len(gone):
            codes = np.asarray(coded.indices.fill_null(0))
            found = stated & gone[codes]
        return found

    def faults(
        self, manifest: str, name: str, column: pa.ChunkedArray, first_row: int
    ) -> Iterator[ManifestError]:
        """The missing files of some rows, as problems.

        Raises:
            StorageError: A store cannot be reached.
        """
        for place in np.flatnonzero(self.missing(column)).tolist():
            value = str(column[place].as_py())
            reason = "no such file, correct the path or remove the row"
            yield ManifestError(manifest, first_row + place, name, value, reason)

    def _is_there(self, url: str) -> bool:
        if not url:
            return True
        fs, path = file_system(url, self._storage, shared=True)
        folder, _, name = path.rstrip("/").rpartition("/")
        if self._every_file:
            return bool(fs.isfile(path))
        key = url[: len(url) - len(os.path.basename(url))] or "."
        if key not in self._listed:
            if len(self._listed) >= KEPT_FOLDERS:
                self._listed.clear()
            self._listed[key] = _files_of(fs, folder)
        names = self._listed[key]
        return bool(fs.isfile(path)) if names is None else name in names


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

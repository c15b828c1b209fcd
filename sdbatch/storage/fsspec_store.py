"""Objects behind an fsspec file system.

`FsspecStore` holds what all of them share and leaves `_create_new` to the scheme, because
each client has its own way to say "only if absent" and its own way to be wrong about it.
`memory://` keeps objects in this process: real enough to be the store of tests and
of one-process runs. Credentials stay in the file system object, which is never sent anywhere.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, BinaryIO, ClassVar, cast

import fsspec

from sdbatch.errors import DamagedError, ObjectNotFoundError, StorageError
from sdbatch.storage.store import ObjectInfo, Store, check_key, check_prefix

TAGS = ("ETag", "etag", "md5Hash", "content_md5", "created", "mtime")


class FsspecStore(Store):
    """What every fsspec scheme has in common; a scheme adds `_create_new`."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url = url.rstrip("/") if not url.endswith("://") else url
        with _translated(self.url, "open"):
            # Listings are never cached: another process's commits must be seen at once.
            self._fs, root = fsspec.url_to_fs(url, use_listings_cache=False, **options)
        self._root = root.rstrip("/")

    def get(self, key: str) -> bytes:  # noqa: D102
        with _translated(self.join(key), "read"):
            return bytes(self._fs.cat_file(self._path(key)))

    def get_file(self, key: str, path: str | os.PathLike[str]) -> None:  # noqa: D102
        info = self.head(key)
        if info is None:
            raise ObjectNotFoundError(self.join(key))
        with _translated(self.join(key), "read"):
            self._fs.get_file(self._path(key), os.fspath(path))
            copied = os.path.getsize(path)
        if copied != info.size_bytes:
            raise DamagedError(self.join(key), f"{info.size_bytes} bytes, but {copied} arrived")

    def put(self, key: str, data: bytes) -> None:  # noqa: D102
        with _translated(self.join(key), "write"):
            self._fs.pipe_file(self._path(key), data)

    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> ObjectInfo:  # noqa: D102
        with _translated(self.join(key), "write"):
            expected = os.path.getsize(local_path)
            self._send(os.fspath(local_path), self._path(key))
        info = self.head(key)
        if info is None or info.size_bytes != expected:
            stored = "nothing" if info is None else f"{info.size_bytes} bytes"
            raise DamagedError(self.join(key), f"{expected} bytes were sent, {stored} arrived")
        return info

    def head(self, key: str) -> ObjectInfo | None:  # noqa: D102
        try:
            with _translated(self.join(key), "look up"):
                facts = self._fs.info(self._path(key))
        except ObjectNotFoundError:
            return None
        return _info(key, facts) if facts["type"] == "file" else None

    def delete(self, key: str) -> None:  # noqa: D102
        with suppress(ObjectNotFoundError), _translated(self.join(key), "delete"):
            self._fs.rm_file(self._path(key))

    def open(self, key: str) -> BinaryIO:  # noqa: D102
        with _translated(self.join(key), "read"):
            return cast(BinaryIO, self._fs.open(self._path(key), "rb"))

    def join(self, key: str) -> str:  # noqa: D102
        return f"{self.url}{'' if self.url.endswith('/') else '/'}{key}"

    def sweep(self, folder: str, *, deep: bool = False) -> int:  # noqa: ARG002, D102
        check_prefix(folder)
        return 0  # an unfinished write shows nothing here and leaves nothing to delete

    def _send(self, local_path: str, path: str) -> None:
        self._fs.put_file(local_path, path)

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        with _translated(self.join(folder), "list"):
            found = self._fs.find(f"{self._root}/{folder}".rstrip("/"), detail=True)
        for path, facts in found.items():
            key = path.removeprefix(self._root).lstrip("/")
            if key.startswith(prefix) and facts["type"] == "file":
                yield _info(key, facts)

    def _path(self, key: str) -> str:
        check_key(key)
        return f"{self._root}/{key}"


class MemoryStore(FsspecStore):
    """`memory://NAME`: objects that live as long as this process.

    fsspec opens the one stored file object for every reader, writes become visible as they
    go, and "create" looks before it writes; so whole values only, and one lock.
    """

    private: ClassVar[bool] = True
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def open(self, key: str) -> BinaryIO:  # noqa: D102
        return io.BytesIO(self.get(key))

    def _create_new(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with self._lock:
            if self._fs.isfile(path):
                raise FileExistsError(path)
            self.put(key, data)

    def _send(self, local_path: str, path: str) -> None:
        with open(local_path, "rb") as file:
            self._fs.pipe_file(path, file.read())


def _info(key: str, facts: Mapping[str, Any]) -> ObjectInfo:
    mark = next((facts[name] for name in TAGS if facts.get(name) is not None), "")
    if isinstance(mark, datetime):
        mark = mark.timestamp()
    return ObjectInfo(key, int(facts["size"]), str(mark))


@contextmanager
def _translated(where: str, doing: str) -> Iterator[None]:
    """Turn a file system's errors into ours, naming the object."""
    try:
        yield
    except FileNotFoundError as error:
        if isinstance(error.filename, str) and os.path.isabs(error.filename) and doing == "write":
            raise StorageError(f"{error.filename}: no such local file to store") from error
        raise ObjectNotFoundError(where) from error
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StorageError(f"{where}: cannot {doing}: {reason}") from error

"""Objects as files of a local or mounted folder.

A file appears under its name in one atomic step: temporary file in the same folder, fsync,
link (create once) or replace, fsync of the folder. Hard links are what makes create-once
true here: `open("x")` would show an empty file before its bytes arrive, and exists-then-write
lets two writers win. Temporary names begin with a dot, which every reader ignores.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from fsspec.core import strip_protocol

from sdbatch.errors import (
    CommitUnknownError,
    DamagedError,
    InputError,
    LocalDiskError,
    ObjectNotFoundError,
    StorageError,
)
from sdbatch.storage.chunks import to_be_stored
from sdbatch.storage.store import ObjectInfo, Store, check_key, check_prefix

HINTS = {
    errno.ENOSPC: "make room and run the command again",
    errno.EDQUOT: "the quota is used up: make room and run the command again",
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
    errno.EROFS: "name a folder that can be written",
    errno.ENOTDIR: "a file stands where a folder is needed",
}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_IN_DOUBT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR, errno.EAGAIN}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_ABSENT = (FileNotFoundError, NotADirectoryError)


class LocalStore(Store):
    """A folder. It is created by the first write, not before."""

    def __init__(self, url: str, _options: Mapping[str, Any]) -> None:
        self.url = os.path.abspath(strip_protocol(url))
        self._root = os.path.realpath(self.url)
        if os.path.exists(self._root) and not os.path.isdir(self._root):
            raise InputError(f"{self.url}: is a file, name a folder")

    def get(self, key: str) -> bytes:  # noqa: D102
        with self.open(key) as file, _translated(self.join(key), "read"):
            return file.read()

    def get_file(self, key: str, path: str | os.PathLike[str]) -> None:  # noqa: D102
        source = self._path(key)
        size = self._size(key)
        target = os.fspath(path)
        with _translated(source, "read"):
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                if error.errno not in _NO_ROOM and error.filename != target:
                    raise
                # Where the target has no room, `copyfile` names its source.
                reason = error.strerror or str(error)
                raise LocalDiskError(socket.gethostname(), target, reason) from error
            copied = os.path.getsize(target)
        if copied != size:
            raise DamagedError(source, f"{size} bytes, but {copied} arrived")

    def put(self, key: str, data: bytes) -> None:  # noqa: D102
        path = self._path(key)
        with _translated(path, "write"), _temporary(path) as temporary:
            _write(temporary, data)
            os.replace(temporary, path)
            _sync_folder(os.path.dirname(path))

    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> ObjectInfo:  # noqa: D102
        path = self._path(key)
        with to_be_stored(local_path), open(local_path, "rb") as file:
            expected = os.fstat(file.fileno()).st_size
        with _translated(path, "write"), _temporary(path) as temporary:
            shutil.copyfile(local_path, temporary)
            _sync(temporary)
            copied = os.path.getsize(temporary)
            if copied != expected:
                raise DamagedError(path, f"{expected} bytes, but {copied} arrived")
            os.replace(temporary, path)
            _sync_folder(os.path.dirname(path))
        info = self.head(key)
        if info is None or info.size_bytes != expected:
            raise DamagedError(path, f"{expected} bytes were written, not there afterwards")
        return info

    def head(self, key: str) -> ObjectInfo | None:  # noqa: D102
        path = self._path(key)
        with _translated(path, "look up"):
            try:
                facts = os.stat(path)
            except _ABSENT:
                return None
        return _info(key, facts) if stat.S_ISREG(facts.st_mode) else None

    def delete(self, key: str) -> None:  # noqa: D102
        path = self._path(key)
        with _translated(path, "delete"), suppress(*_ABSENT):
            os.unlink(path)

    def open(self, key: str) -> BinaryIO:  # noqa: D102
        path = self._path(key)
        with _translated(path, "read"):
            try:
                return open(path, "rb")
            except _ABSENT as error:
                raise ObjectNotFoundError(self.join(key)) from error

    def join(self, key: str) -> str:  # noqa: D102
        return os.path.join(self.url, *key.split("/"))

    def sweep(self, folder: str, *, deep: bool = False) -> int:  # noqa: D102
        check_prefix(folder)
        place = os.path.join(self._root, folder)
        removed = 0
        for at, below, names in os.walk(place):
            if not deep:
                below.clear()
            for name in names:
                if name.startswith(".") and name.endswith(".tmp"):
                    with _translated(place, "sweep"), suppress(FileNotFoundError):
                        os.unlink(os.path.join(at, name))
                        removed += 1
        return removed

    def _create_new(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with _translated(path, "write"), _temporary(path) as temporary:
            _write(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise
            except OSError as error:
                raise _link_failure(path, error) from error
            with suppress(FileNotFoundError):  # swept meanwhile; the object stands all the same
                os.unlink(temporary)
            try:
                _sync_folder(os.path.dirname(path))
            except OSError as error:
                raise CommitUnknownError(path, error.strerror or str(error)) from error

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]
        for key, entry in _files(os.path.join(self._root, folder), folder, prefix):
            with suppress(*_ABSENT):
                yield _info(key, entry.stat(follow_symlinks=False))

    def _path(self, key: str) -> str:
        """Where the bytes lie, links resolved; links that lead out of the root are refused."""
        check_key(key)
        path = os.path.realpath(os.path.join(self._root, *key.split("/")))
        if not path.startswith(self._root.rstrip(os.sep) + os.sep):
            raise InputError(f"{self.join(key)}: a link leads out of {self.url}, remove it")
        return path

    def _size(self, key: str) -> int:
        info = self.head(key)
        if info is None:
            raise ObjectNotFoundError(self.join(key))
        return info.size_bytes


def _files(place: str, key: str, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(key, entry) of every regular file below a folder; dotted names and links are skipped.

    Folders in which no key can begin with `prefix` are not entered: they may be huge,
    or closed to this user.
    """
    with _translated(place, "list"):
        try:
            with os.scandir(place) as scan:
                entries = [entry for entry in scan if not entry.name.startswith(".")]
        except _ABSENT:
            return
    for entry in entries:
        below = f"{key}/{entry.name}" if key else entry.name
        if not below.startswith(prefix):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, below, prefix)
        elif entry.is_file(follow_symlinks=False):
            yield below, entry


def _info(key: str, facts: os.stat_result) -> ObjectInfo:
    tag = f"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"
    return ObjectInfo(key, facts.st_size, tag)


@contextmanager
def _temporary(path: str) -> Iterator[str]:
    """A new name beside `path`, its folder made; gone afterwards unless it was renamed."""
    folder, name = os.path.split(path)
    _make_folder(folder)
    temporary = os.path.join(folder, f".{name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _make_folder(folder: str) -> None:
    """Make a folder and those above it; each survives a power cut once this returns."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    _make_folder(above)
    with suppress(FileExistsError):
        os.mkdir(folder)
    _sync_folder(above)


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: str) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # Windows cannot open folders; NTFS journals names by itself.
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems refuse this for folders and write names through.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _link_failure(path: str, error: OSError) -> StorageError:
    if error.errno in _NO_LINKS:
        return StorageError(f"{path}: this file system has no hard links, name another folder")
    if error.errno in _IN_DOUBT:
        return CommitUnknownError(path, error.strerror or str(error))
    return _explained(path, "write", error)


@contextmanager
def _translated(where: str, doing: str) -> Iterator[None]:
    """Turn the system's errors into one line of ours; "exists" passes as it is."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise _explained(where, doing, error) from error


def _explained(where: str, doing: str, error: OSError) -> StorageError:
    # A folder on the way is the fault itself; temporary names and sources of a copy mislead.
    named = error.filename if isinstance(error.filename, str) else ""
    place = named if named and where.startswith(named.rstrip(os.sep) + os.sep) else where
    hint = HINTS.get(error.errno or 0)
    reason = error.strerror or str(error)
    return StorageError(f"{place}: cannot {doing}: {reason}{f', {hint}' if hint else ''}")

"""Large objects piece by piece: read by ranges, sent by parts.

Each piece is a request of its own with its own time and its own retries, so that a file of
gigabytes is neither held in memory nor begun again for one lost packet.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from sdbatch.errors import LocalDiskError, LocalFileError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

T = TypeVar("T")


class RangedReader(io.RawIOBase):
    """A seekable reader that fetches what is read, a chunk at a time.

    Args:
        size_bytes: Of the whole object.
        head: Its first bytes, which are here already.
        fetch: Bytes `[first, end)`, all of them or an error.
    """

    def __init__(
        self, size_bytes: int, head: bytes, fetch: Callable[[int, int], bytes], chunk_bytes: int
    ) -> None:
        super().__init__()
        self._size, self._fetch, self._chunk = size_bytes, fetch, chunk_bytes
        self._at = 0
        self._held = (0, head)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Position of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; nothing is fetched."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer, or as much of it as one chunk holds; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if self._at >= self._size or not len(view):
            return 0
        start, held = self._held
        if not start <= self._at < start + len(held):
            # Footers and small columns are read in drops: a little more saves a request each.
            want = max(len(view), min(self._chunk, 1 << 20))
            start, end = self._at, min(self._at + min(want, self._chunk), self._size)
            held = self._fetch(start, end)
            self._held = (start, held)
        piece = held[self._at - start :][: len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def part_bytes(size: int, chunk_bytes: int, most_parts: int) -> int:
    """Length of a part: a chunk, or as many as keep the number of parts within bounds."""
    chunks = -(-size // chunk_bytes)
    return chunk_bytes * -(-chunks // most_parts)


def send_parts(
    file: BinaryIO, size: int, length: int, streams: int, send: Callable[[int, bytes], T]
) -> list[T]:
    """Send a file's parts, several at a time; what `send(number from 0, bytes)` returned."""
    lock = Lock()

    def one(number: int) -> T:
        with lock:
            file.seek(number * length)
            data = file.read(length)
        return send(number, data)

    with ThreadPoolExecutor(streams, "upload") as pool:
        return list(pool.map(one, range(-(-size // length))))


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name a local file in the system's errors: it is this node's disk, not the store.

    Raises:
        LocalDiskError: The system refused.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise LocalDiskError(socket.gethostname(), os.fspath(path), reason) from error


@contextmanager
def to_be_stored(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the local file of an upload in the system's errors.

    Raises:
        LocalFileError: It is not there or may not be read, and another try finds no other.
        LocalDiskError: The disk failed.
    """
    try:
        with naming(path):
            yield
    except LocalDiskError as error:
        cause = error.__cause__
        if not isinstance(
            cause, FileNotFoundError | NotADirectoryError | IsADirectoryError | PermissionError
        ):
            raise
        raise LocalFileError(error.path, error.reason) from cause

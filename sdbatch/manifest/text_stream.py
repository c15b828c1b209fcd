"""Bytes of a text manifest as lines of UTF-8, or a fault that names line and byte.

Reading is a stream: a file of any length takes a few megabytes. What no later step could
mend is refused here: other encodings, NUL, lines without an end, archives that break off.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from sdbatch.errors import InputError, ManifestError, StorageError
from sdbatch.remote import file_system

CHUNK_BYTES = 1 << 20
LONGEST_LINE_BYTES = 64 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"


class TextStream:
    """The lines of one file, each with its end.

    Attributes:
        digest: SHA-256 of the bytes read so far, as they are inside an archive.
        size: How many these are.
    """

    def __init__(self, source: Any, name: str) -> None:
        self._source, self._name = source, name
        self.digest = hashlib.sha256()
        self.size = 0
        self._lines_before = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the lines; only a line feed ends one.

        Raises:
            ManifestError: The bytes are no UTF-8 text.
        """
        rest = b""
        for chunk in self._chunks():
            head, mark, tail = chunk.rpartition(b"\n")
            if not mark:
                rest += tail
                self._demand_short(rest)
                continue
            yield from self._decoded(rest + head + mark)
            rest = tail
        if rest:
            yield from self._decoded(rest)

    def _chunks(self) -> Iterator[bytes]:
        first = True
        while chunk := bytes(self._source.read(CHUNK_BYTES)):
            self.digest.update(chunk)
            self.size += len(chunk)
            if first:
                if chunk.startswith(_UTF16):
                    raise self._fault(1, 0, "is UTF-16, save it as UTF-8")
                chunk = chunk.removeprefix(_BOM)
                first = False
            yield chunk

    def _decoded(self, block: bytes) -> Iterator[str]:
        try:
            nul = block.find(b"\0")
            text = block.decode("utf-8") if nul < 0 else ""
        except UnicodeDecodeError as error:
            words = f"is no UTF-8 (0x{block[error.start]:02x}), save it as UTF-8"
            if block[error.start] == 0xED:
                words = "holds half of a surrogate pair, which is no UTF-8; write it anew as UTF-8"
            raise self._at(block, error.start, words) from error
        if nul >= 0:
            raise self._at(block, nul, "holds a NUL byte; is it UTF-16? Save it as UTF-8")
        yield from io.StringIO(text, newline="\n")
        self._lines_before += block.count(b"\n")

    def _demand_short(self, rest: bytes) -> None:
        if len(rest) > LONGEST_LINE_BYTES:
            words = f"is longer than {LONGEST_LINE_BYTES >> 20} MB, is this a file of lines?"
            raise self._fault(self._lines_before + 1, -1, words)

    def _at(self, block: bytes, place: int, words: str) -> ManifestError:
        line = block.count(b"\n", 0, place)
        start = block.rfind(b"\n", 0, place) + 1
        return self._fault(self._lines_before + line + 1, place - start, words)

    def _fault(self, line: int, byte: int, words: str) -> ManifestError:
        where = f"line {line}, byte {byte + 1}" if byte >= 0 else f"line {line}"
        return ManifestError(self._name, -1, "", "", f"{where} {words}")


@contextmanager
def open_text(url: str, compression: str, storage: Any) -> Iterator[TextStream]:
    """Open a file as lines.

    Args:
        url: Path or fsspec URL; it is what messages name.
        compression: `gz`, `zst`, or empty.
        storage: fsspec options of its file system.

    Raises:
        ManifestError: It is not there, or breaks off, or is no text.
        StorageError: The store cannot be reached.
    """
    try:
        fs, path = file_system(url, storage, shared=True)
        with fs.open(path, "rb") as raw:
            yield TextStream(_unpacked(raw, compression), url)
    except (gzip.BadGzipFile, EOFError, zlib.error, pa.ArrowInvalid) as error:
        raise _damaged(url, compression, error) from error
    except FileNotFoundError as error:
        raise ManifestError(url, -1, "", "", "no such file or folder") from error
    except PermissionError as error:
        raise ManifestError(url, -1, "", "", "may not be read, check its permissions") from error
    except OSError as error:
        if error.errno is None and compression:
            raise _damaged(url, compression, error) from error
        raise StorageError(f"{url}: cannot be read: {' '.join(str(error).split())}") from error
    except (ImportError, ValueError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"{url}: cannot be read: {line}") from error


def _unpacked(raw: Any, compression: str) -> Any:
    if compression == "gz":
        return gzip.GzipFile(fileobj=raw)
    if compression == "zst":
        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return raw


def _damaged(url: str, compression: str, error: Exception) -> ManifestError:
    said = " ".join(str(error).split()) or "it breaks off"
    return ManifestError(url, -1, "", "", f"damaged .{compression} file: {said}")

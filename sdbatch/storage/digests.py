"""MD5 as stores know it: of bytes, of files, and as HTTP headers spell it.

It guards against accidents on the way, not against enemies; what must not be forged carries
a SHA-256 in its record.
"""

from __future__ import annotations

import base64
import hashlib
from typing import BinaryIO


def _new() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def md5_of(*pieces: bytes) -> str:
    """MD5 of bytes in order, as 32 hex digits."""
    digest = _new()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def file_md5(file: BinaryIO) -> str:
    """MD5 of a whole seekable file, which is left at its beginning."""
    digest = _new()
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def md5_base64(md5: str) -> str:
    """32 hex digits as a `Content-MD5` header carries them."""
    return base64.b64encode(bytes.fromhex(md5)).decode()


def md5_hex(text: str | bytes | bytearray | None) -> str:
    """Hex digits of what a header (base64) or a client (raw bytes) says; empty for nothing."""
    if not text:
        return ""
    return bytes(base64.b64decode(text) if isinstance(text, str) else text).hex()

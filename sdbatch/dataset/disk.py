"""The local disk under spool and shard files: its refusals, in our words."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdbatch.errors import LocalDiskError


@contextmanager
def local_disk(path: Path) -> Iterator[None]:
    """Translate what the operating system refuses inside.

    Raises:
        LocalDiskError: The disk is full or the path cannot be used.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise LocalDiskError(socket.gethostname(), str(path), reason) from error

"""The local disk under spool and shard files: its refusals, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdbatch.errors import StorageError


@contextmanager
def local_disk(path: Path) -> Iterator[None]:
    """Translate what the operating system refuses inside.

    Raises:
        StorageError: The disk is full or the path cannot be used.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{path}: {reason}: a worker needs local disk for about four shards, "
            "free some or use smaller shards"
        ) from error

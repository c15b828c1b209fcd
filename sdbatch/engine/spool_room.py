"""Room for spools: whether the disk of a node can hold what its workers will put there.

Asked before anything is drawn, for a disk that fills up hours later costs those hours.
Every worker leaves a note of its need in its own folder, so that those of one node add up.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from sdbatch.engine.own_folder import living
from sdbatch.errors import LocalDiskError
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.estimate import PNG, image_bytes
from sdbatch.records import Shard

SHARDS_AT_ONCE = 4
"""Two in the spool, one as files on their way to the store, one as a part or in reserve."""

NEED = "need"  # bytes, in the folder of the worker that needs them


def spool_bytes(
    shards: Iterable[Shard], sizes: Sequence[tuple[int, int]], image: ImageSpec = PNG
) -> int:
    """What one worker of this run needs on its disk, by rule of thumb.

    Args:
        shards: The open ones.
        sizes: Picture sizes of the run as (width, height); the largest one counts.
        image: How pictures are stored.
    """
    most = max((shard.num_images for shard in shards), default=0)
    each = max((image_bytes(*size, image) for size in sizes), default=0)
    return SHARDS_AT_ONCE * most * each


def reserve(folder: Path, need_bytes: int, prefix: str) -> None:
    """Note the need of the worker that owns `folder`, and see that the disk can meet it.

    Args:
        folder: Made by `own_folder` with this `prefix`.
        need_bytes: What the worker will hold at most.
        prefix: What the folders of all workers begin with.

    Raises:
        LocalDiskError: What is free is less than what this worker and those before it need.
    """
    (folder / NEED).write_text(str(need_bytes))
    own = _came(folder)
    others = [other for other in living(prefix, folder.parent) if other != folder]
    before = [other for other in others if _came(other) < own]
    owed = need_bytes + sum(_owed(other) for other in before)
    free = shutil.disk_usage(folder).free
    if free < owed:
        (folder / NEED).unlink()
        workers = "1 worker" if not before else f"{len(before) + 1} workers"
        reason = f"{_size(free)} free, {workers} of this node need {_size(owed)}"
        raise LocalDiskError(socket.gethostname(), str(folder.parent), reason)


def _came(folder: Path) -> tuple[int, str]:
    """Who came first; workers that load at the same time must not all be refused."""
    try:
        return (folder / NEED).stat().st_mtime_ns, folder.name
    except OSError:
        return 0, folder.name


def _owed(folder: Path) -> int:
    """What a worker needs beyond what it has written already."""
    need = used = 0
    with suppress(OSError, ValueError):
        need = int((folder / NEED).read_text())
    for path in folder.rglob("*"):
        with suppress(OSError):
            used += path.stat().st_size
    return max(need - used, 0)


def _size(num_bytes: int) -> str:
    """Bytes for people."""
    if num_bytes < 10**9:
        return f"{num_bytes / 10**6:.0f} MB"
    return f"{num_bytes / 10**9:.1f} GB"

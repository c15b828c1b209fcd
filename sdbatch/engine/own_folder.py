"""Temporary folders that outlive nobody: whoever comes next clears up after the killed.

A folder is locked while its process lives, and the kernel lets go of the lock however the
process ends. So a folder that can be locked belongs to nobody any more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LOCK = "owner"  # held by the living owner of the folder
GONE_WITHIN_S = 5.0


@contextlib.contextmanager
def own_folder(prefix: str, base: Path) -> Iterator[Path]:
    """A new folder `base/prefix...`, locked while this process lives and removed at the end.

    Folders of the same prefix whose owners were killed are removed first.
    """
    _remove_stale(prefix, base)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    lock = os.open(folder / f"{LOCK}.new", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if _locked(lock):
            (folder / f"{LOCK}.new").rename(folder / LOCK)  # from here on a lock tells the truth
        yield folder
    finally:
        _remove(folder)
        os.close(lock)


def _remove(folder: Path) -> None:
    """Delete a folder into which others may still be writing their last lines."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05 if folder.exists() else 0)


def _remove_stale(prefix: str, base: Path) -> None:
    for lock_path in base.glob(f"{prefix}*/{LOCK}"):
        with contextlib.suppress(OSError):
            lock = os.open(lock_path, os.O_RDWR)
            try:
                if _locked(lock):
                    shutil.rmtree(lock_path.parent, ignore_errors=True)
            finally:
                os.close(lock)


def _locked(descriptor: int) -> bool:
    """Take a lock that ends with this process; False when another one holds it."""
    if sys.platform == "win32":
        return False  # no such lock: folders of killed drivers stay
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

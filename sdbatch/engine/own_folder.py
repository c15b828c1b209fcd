"""Temporary folders that outlive nobody: whoever comes next clears up after the killed.

A folder is locked while its process lives, and the kernel lets go of the lock however the
process ends. So a folder that can be locked belongs to nobody any more. Standard library
only, for `orphan_watch.py` runs this file outside the package.
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
    remove_stale(prefix, base)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    lock = os.open(folder / f"{LOCK}.new", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if _locked(lock):
            (folder / f"{LOCK}.new").rename(folder / LOCK)  # from here on a lock tells the truth
        yield folder
    finally:
        if sys.platform == "win32":  # what is open cannot be deleted there
            os.close(lock)
            remove(folder)
        else:
            remove(folder)
            os.close(lock)


def remove(folder: Path) -> None:
    """Delete a folder into which others may still be writing their last lines."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05 if folder.exists() else 0)


def _remove_below(folder: Path) -> None:
    """Delete all but the lock: what cannot go yet must not lie there without one for ever."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def remove_stale(prefix: str, base: Path) -> None:
    """Delete folders of this prefix whose owners are gone."""
    for folder in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _lock_of_the_dead(folder) as dead:
            if dead:
                _remove_below(folder)
                shutil.rmtree(folder, ignore_errors=True)


def living(prefix: str, base: Path) -> list[Path]:
    """Folders of this prefix whose owners live."""
    found = []
    for folder in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _lock_of_the_dead(folder) as dead:
            if not dead:
                found.append(folder)
    return found


@contextlib.contextmanager
def _lock_of_the_dead(folder: Path) -> Iterator[bool]:
    """Whether the owner is gone; if so, the lock is held here inside the block.

    Raises:
        OSError: The folder has no lock: nobody knows whose it is.
    """
    lock = os.open(folder / LOCK, os.O_RDWR)
    try:
        yield _locked(lock)
    finally:
        os.close(lock)


def _locked(descriptor: int) -> bool:
    """Take a lock that ends with this process; False when another one holds it."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: folders of killed drivers stay
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

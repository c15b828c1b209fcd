"""A manifest in several files: consecutive parts, or random shares such as train and val.

Shares are exact to the row and drawn with a seed: rows with the smallest random numbers go to
the first share. Only a histogram of these numbers is held, so memory stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.errors import InputError, StorageError
from sdbatch.manifest.reader import Manifest, Storage, iter_tables
from sdbatch.manifest.shuffle import RowKeys
from sdbatch.manifest.written import OutputFile
from sdbatch.remote import is_url

MAX_PARTS = 10_000
_BITS = 20
_BATCH = 65536
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def split_parts(
    manifest: Manifest,
    folder: str | Path,
    parts: int,
    *,
    overwrite: bool = False,
    storage: Storage = None,
) -> dict[str, int]:
    """Write consecutive parts whose lengths differ by at most one row.

    Returns:
        File name to rows.

    Raises:
        InputError: There are fewer rows than parts, or a file is there already.
        StorageError: The store cannot be reached, or the disk is full.
    """
    rows = manifest.ref.num_rows
    if not 1 <= parts <= min(rows, MAX_PARTS):
        raise InputError(f"--parts {parts}: use a number from 1 to {min(rows, MAX_PARTS):,}")
    names = [f"part-{part:05d}-of-{parts:05d}.parquet" for part in range(parts)]
    ends = [rows * (part + 1) // parts for part in range(parts)]
    tables = _tables(manifest, storage)
    written, held = {}, next(tables, None)
    place = 0
    paths = _demand_room(folder, names, overwrite)
    for name, path, end in zip(names, paths, ends, strict=True):
        with OutputFile(path, manifest.schema, overwrite=overwrite) as file:
            while place < end and held is not None:
                take = min(held.num_rows, end - place)
                file.add(held.slice(0, take))
                place += take
                held = held.slice(take) if take < held.num_rows else next(tables, None)
            written[name] = file.num_rows
    return written


def split_shares(
    manifest: Manifest,
    folder: str | Path,
    shares: Mapping[str, float],
    *,
    seed: int = 0,
    overwrite: bool = False,
    storage: Storage = None,
) -> dict[str, int]:
    """Write random shares, each in manifest order; they add up to all rows.

    Args:
        manifest: The rows; all columns are kept.
        folder: Made if it is not there.
        shares: Name to share; together they are 1.
        seed: Chooses the rows of each.
        overwrite: Whether files of these names may be replaced.
        storage: fsspec options of the manifest's file system.

    Returns:
        File name to rows.

    Raises:
        InputError: The shares are not 1 together, or a file is there already.
        StorageError: The store cannot be reached, or the disk is full.
    """
    _demand_shares(shares)
    rows = manifest.ref.num_rows
    ends = [round(rows * share) for share in np.cumsum(list(shares.values())).tolist()]
    bounds = [_rank(rows, seed, end) for end in ends[:-1]]
    names = [f"{name}.parquet" for name in shares]
    paths = _demand_room(folder, names, overwrite)
    keys = RowKeys(seed)
    with ExitStack() as keep:
        files = [
            keep.enter_context(OutputFile(path, manifest.schema, overwrite=overwrite))
            for path in paths
        ]
        for table in _tables(manifest, storage):
            drawn = keys.take(table.num_rows)
            which = sum(
                (_reaches(drawn, bound) for bound in bounds), np.zeros(len(drawn), np.int64)
            )
            for number, file in enumerate(files):
                file.add(table.filter(pa.array(which == number)))
        return {name: file.num_rows for name, file in zip(names, files, strict=True)}


def _demand_shares(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if not _NAME.fullmatch(name):
            raise InputError(f"share {name!r}: letters, digits, '-' and '_' only, at most 32")
        if not 0 < share < 1:
            raise InputError(f"share {name} {share:g}: must lie between 0 and 1")
    total = sum(shares.values())
    if len(shares) < 2 or abs(total - 1) > 1e-6:
        said = " + ".join(f"{name} {share:g}" for name, share in shares.items())
        raise InputError(f"{said or 'no shares'}: two or more shares must be 1 together")


def _reaches(drawn: NDArray[np.uint64], bound: int) -> NDArray[np.int64]:
    """1 where a number is no less than the bound; none is where all of them lie below it."""
    if bound >= 1 << 64:
        return np.zeros(len(drawn), np.int64)
    return (drawn >= np.uint64(bound)).astype(np.int64)


def _rank(rows: int, seed: int, rank: int) -> int:
    """The random number that exactly `rank` rows lie below."""
    counts = np.zeros(1 << _BITS, np.int64)
    for drawn in _drawn(rows, seed):
        counts += np.bincount((drawn >> np.uint64(64 - _BITS)).astype(np.int64), minlength=1 << 20)
    before = np.cumsum(counts) - counts
    place = int(np.searchsorted(before, rank, side="right")) - 1
    inside = [
        drawn[drawn >> np.uint64(64 - _BITS) == np.uint64(place)] for drawn in _drawn(rows, seed)
    ]
    ordered = np.sort(np.concatenate(inside))
    at = rank - int(before[place])
    return int(ordered[at]) if at < len(ordered) else (place + 1) << (64 - _BITS)


def _drawn(rows: int, seed: int) -> Iterator[NDArray[np.uint64]]:
    keys = RowKeys(seed)
    for first in range(0, rows, _BATCH):
        yield keys.take(min(_BATCH, rows - first))


def _tables(manifest: Manifest, storage: Storage) -> Iterator[pa.Table]:
    return iter_tables(manifest.ref, manifest.schema.names, storage=storage)


def _demand_room(folder: str | Path, names: list[str], overwrite: bool) -> list[Path]:
    """Paths of all files, refused together before the first is begun."""
    if is_url(str(folder)):
        raise InputError(f"{folder}: name a folder of this machine")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error}") from error
    paths = [Path(folder) / name for name in names]
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]}: is there already, name another folder or give --overwrite")
    return paths

"""Levels 1 and 2: are the files there, as long as their records say, and byte for byte the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

from sdbatch.audit.report import Problem, Report
from sdbatch.engine.shard_pictures import loose_files_of
from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord
from sdbatch.storage.store import Store

CHUNK_BYTES = 1 << 20
THREADS = 8  # small files are read together


def check_sizes(
    store: Store, report: Report, records: Sequence[CommitRecord], named: set[str]
) -> None:
    """Level 1: sizes from one listing a folder, which also shows what no record names.

    Args:
        named: Files of the newest success record; those of an open rework's shards stand
            until it is closed.
    """
    sizes = {
        info.key: info.size_bytes
        for folder in layout.FOLDERS
        for info in store.list(layout.data_prefix(folder, report.run))
        if layout.parse_data(info.key, report.run)
    }
    known: set[str] = set()
    for record in records:
        shard_id = record.result.shard_id
        files = [*record.files, *(("data", file) for file in _loose(store, report, record, 1))]
        for kind, file in files:
            size = sizes.pop(file.key, None)
            known.add(file.key)
            report.files_checked += 1
            if size is None:
                problem = Problem(file.key, 1, "missing", "a record names it", shard_id, kind)
                report.problems.append(problem)
            elif size != file.size_bytes:
                message = f"{size} bytes instead of {file.size_bytes}"
                report.problems.append(Problem(file.key, 1, "size", message, shard_id, kind))
    kept = named if report.unfinished else frozenset()
    # Loose pictures whose index is gone or damaged are its shard's, not nobody's.
    mine = known | kept
    report.orphans = tuple(sorted(key for key in sizes if layout.owner_key(key) not in mine))


def check_bytes(store: Store, report: Report, records: Sequence[CommitRecord]) -> Iterator[Problem]:
    """Level 2: every byte of every file, read again; what level 1 misses is not told twice."""
    known = {problem.key for problem in report.problems}
    for record in records:
        shard_id = record.result.shard_id
        for kind, file in record.files:
            if file.key not in known:
                size, found = _check_file(store, (shard_id, kind), file)
                report.bytes_checked += size
                yield from found
        loose = [file for file in _loose(store, report, record, 2) if file.key not in known]
        with ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as pool:
            check = partial(_check_file, store, (shard_id, "data"))
            for size, found in pool.map(check, loose):
                report.bytes_checked += size
                yield from found


def _check_file(store: Store, of: tuple[int, str], file: DataFile) -> tuple[int, list[Problem]]:
    """Bytes read, and what is wrong with them."""
    try:
        with store.open(file.key) as source:
            digest, size = _digest(source)
    except ObjectNotFoundError:
        return 0, [Problem(file.key, 2, "missing", "a record names it", *of)]
    if digest == file.sha256:
        return size, []
    message = f"sha256 {digest[:12]}, not {file.sha256[:12]}"
    return size, [Problem(file.key, 2, "hash", message, *of)]


def _loose(store: Store, report: Report, record: CommitRecord, level: int) -> list[DataFile]:
    """Files beside the index of a shard of loose pictures; none where it cannot be read."""
    try:
        return loose_files_of(store, record.result.data)
    except ObjectNotFoundError:
        return []  # its size is checked too, and told as missing
    except DamagedError as error:
        if level == 1:
            shard_id = record.result.shard_id
            problem = Problem(record.result.data.key, 1, "unreadable", str(error), shard_id, "data")
            report.problems.append(problem)
        return []


def _digest(source: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size

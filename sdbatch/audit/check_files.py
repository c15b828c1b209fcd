"""Levels 1 and 2: are the files there, as long as their records say, and byte for byte the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from sdbatch.audit.report import Problem, Report
from sdbatch.errors import ObjectNotFoundError
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord
from sdbatch.storage.store import Store

CHUNK_BYTES = 1 << 20


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
        for kind in layout.KINDS
        for info in store.list(layout.data_prefix(kind, report.run))
        if layout.parse_data(info.key, report.run)
    }
    for shard_id, kind, file in _files(records):
        size = sizes.pop(file.key, None)
        report.files_checked += 1
        if size is None:
            problem = Problem(file.key, 1, "missing", "a record names it", shard_id, kind)
            report.problems.append(problem)
        elif size != file.size_bytes:
            message = f"{size} bytes instead of {file.size_bytes}"
            report.problems.append(Problem(file.key, 1, "size", message, shard_id, kind))
    kept = named if report.unfinished else frozenset()
    report.orphans = tuple(sorted(sizes.keys() - kept))


def check_bytes(store: Store, report: Report, records: Sequence[CommitRecord]) -> Iterator[Problem]:
    """Level 2: every byte of every file, read again; what level 1 misses is not told twice."""
    known = {problem.key for problem in report.problems}
    for shard_id, kind, file in _files(records):
        if file.key in known:
            continue
        try:
            with store.open(file.key) as source:
                digest, size = _digest(source)
        except ObjectNotFoundError:
            yield Problem(file.key, 2, "missing", "a record names it", shard_id, kind)
            continue
        report.bytes_checked += size
        if digest != file.sha256:
            message = f"sha256 {digest[:12]}, not {file.sha256[:12]}"
            yield Problem(file.key, 2, "hash", message, shard_id, kind)


def _files(records: Sequence[CommitRecord]) -> Iterator[tuple[int, str, DataFile]]:
    for record in records:
        for kind, file in record.files:
            yield record.result.shard_id, kind, file


def _digest(source: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size

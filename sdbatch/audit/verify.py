"""Is a dataset what its records say? Reads, never repairs.

Each level includes those below it: 0 plan and records, 1 files and their sizes, 2 every byte,
3 every row and picture. Damage and incompleteness are different answers: a run that is still
going is unfinished, not broken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from sdbatch.audit.check_pictures import PictureCheck
from sdbatch.audit.check_records import check_plan, check_record, check_success, read_shards
from sdbatch.audit.report import Problem, Report
from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError
from sdbatch.records import DataFile, Shard
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.store import Store

LEVELS = range(4)
CHUNK_BYTES = 1 << 20


def verify(store: Store, run: str = layout.MAIN, level: int = 1) -> Report:
    """Check a run's dataset.

    Raises:
        InputError: The level is none of 0 to 3, or there is no run here.
        StorageError: The store failed, so that nothing can be said.
    """
    if level not in LEVELS:
        raise InputError(f"verify level {level}: one of 0 (records), 1 (sizes), 2 (bytes), 3 (all)")
    folder = RunFolder(store, run)
    job = folder.read_job()
    if job is None:
        raise InputError(f"{store.url}: holds no run '{run}', name the output of sdbatch render")
    report = Report(store.url, run, level, shards=job["num_shards"], images=job["images"])
    try:
        shards = read_shards(store, job["plan_key"])
    except (DamagedError, ObjectNotFoundError) as error:
        report.problems.append(Problem(job["plan_key"], 0, "plan", str(error)))
        return report
    report.problems += check_plan(job, shards)
    records = _check_records(folder, report, {shard.shard_id: shard for shard in shards}, job)
    _check_end(folder, report, records)
    if level >= 1:
        _check_files(store, report, records)
    if level >= 2:
        report.problems += _check_bytes(store, report, records)
    if level >= 3:
        _check_pictures(store, report, records, shards)
    return report


def _check_records(
    folder: RunFolder, report: Report, shards: Mapping[int, Shard], job: Mapping[str, Any]
) -> list[CommitRecord]:
    """Level 0, record by record; returns the readable ones, in shard order."""
    records = []
    for shard_id, key in sorted(folder.standing().items()):
        try:
            record = folder.read_record(key)
        except (DamagedError, ObjectNotFoundError) as error:
            report.problems.append(Problem(key, 0, "record", str(error)))
            continue
        if shard_id not in shards or record.result.shard_id != shard_id:
            report.problems.append(Problem(key, 0, "record", "of a shard that is not planned here"))
        else:
            report.problems += check_record(key, record, shards[shard_id], job)
            records.append(record)
    report.committed = len(records)
    for name in ("success", "failed", "filtered"):
        setattr(report, name, sum(getattr(record.result, name) for record in records))
    return records


def _check_end(folder: RunFolder, report: Report, records: list[CommitRecord]) -> None:
    key = layout.successes_prefix(report.run)
    try:
        success = folder.success()
    except DamagedError as error:
        report.problems.append(Problem(key, 0, "success", str(error)))
        return
    missing = report.shards - len(records)
    if success is not None:
        report.problems += check_success(key, success, records)
        if missing:
            report.problems.append(
                Problem(key, 0, "success", f"stands, yet {missing} shards have no readable record")
            )
    elif missing:
        report.unfinished = f"{missing:,} of {report.shards:,} shards are not committed"
    else:
        report.unfinished = "all shards are committed, the success record is missing"


def _check_files(store: Store, report: Report, records: list[CommitRecord]) -> None:
    """Level 1: sizes from one listing a folder, which also shows what no record names."""
    sizes = {
        info.key: info.size_bytes
        for kind in layout.KINDS
        for info in store.list(layout.data_prefix(kind, report.run))
        if layout.parse_data(info.key, report.run)
    }
    for file in _files(records):
        size = sizes.pop(file.key, None)
        report.files_checked += 1
        if size is None:
            report.problems.append(Problem(file.key, 1, "missing", "a record names it"))
        elif size != file.size_bytes:
            message = f"{size} bytes instead of {file.size_bytes}"
            report.problems.append(Problem(file.key, 1, "size", message))
    report.orphans = tuple(sorted(sizes))


def _check_bytes(store: Store, report: Report, records: list[CommitRecord]) -> Iterator[Problem]:
    """Level 2: every byte of every file, read again; what level 1 misses is not told twice."""
    known = {problem.key for problem in report.problems}
    for file in _files(records):
        if file.key in known:
            continue
        with store.open(file.key) as source:
            digest, size = _digest(source)
        report.bytes_checked += size
        if digest != file.sha256:
            yield Problem(file.key, 2, "hash", f"sha256 {digest[:12]}, not {file.sha256[:12]}")


def _check_pictures(
    store: Store, report: Report, records: list[CommitRecord], shards: list[Shard]
) -> None:
    """Level 3, for shards whose files are there."""
    check = PictureCheck(store, report.run)
    missing = {problem.key for problem in report.problems if problem.kind == "missing"}
    by_id = {shard.shard_id: shard for shard in shards}
    for record in records:
        if not missing.intersection(file.key for _, file in record.files):
            report.problems += check.check(record, by_id[record.result.shard_id])
    report.images_checked = check.images


def _files(records: list[CommitRecord]) -> Iterator[DataFile]:
    for record in records:
        for _, file in record.files:
            yield file


def _digest(source: BinaryIO) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size

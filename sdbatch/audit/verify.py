"""Is a dataset what its records say? Reads, never repairs.

Each level includes those below it: 0 plan and records, 1 files and their sizes, 2 every byte,
3 every row and picture. Damage and incompleteness are different answers: a run that is still
going, or a retry of it, is unfinished, not broken. Records are read where they lie, whatever
a compaction says of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

from sdbatch.audit.check_copies import CopyCheck
from sdbatch.audit.check_end import check_end
from sdbatch.audit.check_files import check_bytes, check_sizes
from sdbatch.audit.check_pictures import PictureCheck
from sdbatch.audit.check_records import check_plan, check_record, read_shards
from sdbatch.audit.report import Problem, Report
from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError
from sdbatch.records import Shard
from sdbatch.storage import layout
from sdbatch.storage.commit import READERS, CommitRecord, RunFolder
from sdbatch.storage.record import parse_record
from sdbatch.storage.store import Store

LEVELS = range(4)
WINDOW = 256  # records read ahead


def verify(store: Store, run: str = layout.MAIN, level: int = 1, sample: float = 1.0) -> Report:
    """Check a run's dataset.

    Args:
        sample: Share of the shards, above 0 and at most 1, whose files levels 2 and 3 read:
            other ones each time, at least one.

    Raises:
        InputError: The level is none of 0 to 3, the share is none, or there is no run here.
        StorageError: The store failed, so that nothing can be said.
    """
    if level not in LEVELS:
        raise InputError(f"verify level {level}: one of 0 (records), 1 (sizes), 2 (bytes), 3 (all)")
    if not 0 < sample <= 1:
        raise InputError(f"verify sample {sample}: a share above 0 and at most 1, such as 0.1")
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
    records = _check_records(store, folder, report, {one.shard_id: one for one in shards}, job)
    named = check_end(store, folder, report, records)
    if level >= 1:
        check_sizes(store, report, records, named)
    chosen = _choose(records, sample)
    if level >= 2:
        report.sampled = len(chosen)
        report.problems += check_bytes(store, report, chosen)
    if level >= 3:
        _check_pictures(store, report, chosen, shards)
    return report


def _check_records(
    store: Store,
    folder: RunFolder,
    report: Report,
    shards: Mapping[int, Shard],
    job: Mapping[str, Any],
) -> list[CommitRecord]:
    """Level 0, record by record; returns the readable ones, in shard order."""
    records = []
    copies = CopyCheck(store, report.run, job["plan_id"])
    for key, data in _read_all(store, sorted(folder.standing(certain=True).items())):
        shard_id, revision = layout.parse_commit(key) or (-1, -1)
        report.remarks += copies.check(shard_id, revision, data)
        try:
            record = parse_record(store.join(key), data)
        except DamagedError as error:
            report.problems.append(Problem(key, 0, "record", str(error), shard_id, "record"))
            continue
        if shard_id not in shards:
            message = "of a shard that is not planned here"
            report.problems.append(Problem(key, 0, "record", message))
        elif (record.result.shard_id, record.revision) != (shard_id, revision):
            message = f"of shard {record.result.shard_id}, revision {record.revision}"
            report.problems.append(Problem(key, 0, "record", message, shard_id, "record"))
        else:
            found = check_record(key, record, shards[shard_id], job)
            report.problems += (replace(one, shard_id=shard_id, file="record") for one in found)
            records.append(record)
    report.remarks += copies.finish()
    report.committed = len(records)
    for name in ("success", "failed", "filtered"):
        setattr(report, name, sum(getattr(record.result, name) for record in records))
    return records


def _read_all(store: Store, keys: Sequence[tuple[int, str]]) -> Iterator[tuple[str, bytes]]:
    """(key, bytes) of records, read by several threads; one that is gone has none."""

    def read(place: tuple[int, str]) -> tuple[str, bytes]:
        try:
            return place[1], store.get(place[1])
        except ObjectNotFoundError:
            return place[1], b""

    places = iter(keys)
    with ThreadPoolExecutor(READERS, thread_name_prefix="verify") as pool:
        while window := list(islice(places, WINDOW)):
            yield from map(read, window) if len(window) <= READERS else pool.map(read, window)


def _choose(records: Sequence[CommitRecord], sample: float) -> Sequence[CommitRecord]:
    if sample == 1 or not records:
        return records
    count = math.ceil(sample * len(records))
    picked = sorted(random.sample(range(len(records)), count))
    return [records[number] for number in picked]


def _check_pictures(
    store: Store, report: Report, records: Sequence[CommitRecord], shards: Sequence[Shard]
) -> None:
    """Level 3, for shards whose files are there."""
    check = PictureCheck(store, report.run)
    missing = {problem.key for problem in report.problems if problem.kind == "missing"}
    by_id = {shard.shard_id: shard for shard in shards}
    for record in records:
        kinds = {file.key: kind for kind, file in record.files}
        shard_id = record.result.shard_id
        if missing.isdisjoint(kinds):
            for problem in check.check(record, by_id[shard_id]):
                kind = kinds.get(problem.key, "")
                report.problems.append(replace(problem, shard_id=shard_id, file=kind))
    report.images_checked = check.images

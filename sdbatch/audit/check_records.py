"""Level 0: do plan and commit records agree? No dataset file is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.audit.report import Problem
from sdbatch.errors import DamagedError
from sdbatch.records import Shard
from sdbatch.storage.commit import CommitRecord
from sdbatch.storage.layout import parse_data
from sdbatch.storage.store import Store

COLUMNS = Shard.__slots__


def read_shards(store: Store, key: str) -> list[Shard]:
    """The shards of a stored plan.

    Raises:
        DamagedError: The table cannot be read.
        ObjectNotFoundError: There is none.
    """
    try:
        with store.open(key) as file:
            reader = pq.ParquetFile(file, pre_buffer=False)
            table = reader.read(list(COLUMNS), use_threads=False)
        return [Shard(**row) for row in table.to_pylist()]
    except (pa.ArrowException, OSError, TypeError) as error:
        raise DamagedError(store.join(key), f"no table of shards ({error})") from error


def check_plan(job: Mapping[str, Any], shards: Sequence[Shard]) -> Iterator[Problem]:
    """Shards are numbered from 0 and cut every manifest row exactly once."""

    def problem(message: str) -> Problem:
        return Problem(job["plan_key"], 0, "plan", message)

    if [shard.shard_id for shard in shards] != list(range(job["num_shards"])):
        yield problem(f"shards are not numbered 0 to {job['num_shards'] - 1}")
    images = sum(shard.num_images for shard in shards)
    if images != job["images"]:
        yield problem(f"{images} pictures in shards, {job['images']} in the job")

    def window(shard: Shard) -> tuple[int, int]:
        return (shard.first_row, shard.end_row)

    expected = 0
    for (first, end), members in groupby(sorted(shards, key=window), key=window):
        if first != expected or end < first:
            yield problem(f"rows {first} to {end} follow row {expected}")
        if not _cut_once(list(members), end - first):
            yield problem(f"rows {first} to {end} are not cut exactly once")
        expected = end
    if expected != job["rows"]:
        yield problem(f"shards end at row {expected}, the manifest at {job['rows']}")


def check_record(
    key: str, record: CommitRecord, shard: Shard, job: Mapping[str, Any]
) -> Iterator[Problem]:
    """A record belongs to this plan, and its counts add up to the shard's pictures."""
    result = record.result
    if record.plan_id != job["plan_id"]:
        yield Problem(key, 0, "record", f"of plan {record.plan_id}, not {job['plan_id']}")
    ends = result.success + result.failed + result.filtered
    if ends != shard.num_images:
        yield Problem(key, 0, "counts", f"{ends} pictures ended, {shard.num_images} were planned")
    if result.num_rows != shard.num_rows:
        yield Problem(key, 0, "counts", f"{result.num_rows} rows of {shard.num_rows} planned")
    rows_of = {
        "data": result.success,
        "metadata": result.success,
        "errors": result.failed,
        "filtered": result.filtered,
    }
    for kind, file in record.files:
        if file.num_rows != rows_of[kind]:
            message = f"{file.num_rows} rows in {file.key} instead of {rows_of[kind]}"
            yield Problem(key, 0, "counts", message)
        name = parse_data(file.key, job["run"])
        expected = (kind, shard.shard_id, result.attempt)
        if (
            not name
            or (name.kind, name.shard_id, name.attempt) != expected
            or name.num_shards not in (None, job["num_shards"])
        ):
            yield Problem(key, 0, "record", f"names {file.key!r}, no file of this attempt")
    named = {kind for kind, _ in record.files}
    for kind in ("errors", "filtered"):
        if kind not in named and rows_of[kind]:
            yield Problem(key, 0, "counts", f"{rows_of[kind]} pictures, no file of {kind}/")


def _cut_once(shards: Sequence[Shard], num_rows: int) -> bool:
    """Whether the shards of a window take its rows one after the other, group by group."""
    taken: dict[str, int] = {}
    for shard in sorted(shards, key=lambda shard: (shard.group, shard.skip)):
        if shard.skip != taken.get(shard.group, 0):
            return False
        taken[shard.group] = shard.skip + shard.num_rows
    return sum(taken.values()) == num_rows

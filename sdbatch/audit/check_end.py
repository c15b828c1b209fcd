"""Level 0: success records and reworks against the commit records.

The success records of a run form a chain: number 0 ends the run, and each rework leads
from one to the next and changes its own shards alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sdbatch.audit.report import Problem, Report
from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder, summarise
from sdbatch.storage.record import KNOWN_PROTOCOLS
from sdbatch.storage.rework import Rework, read_rework, rework_numbers
from sdbatch.storage.store import Store
from sdbatch.storage.success import success_numbers


def check_end(
    store: Store, folder: RunFolder, report: Report, records: Sequence[CommitRecord]
) -> set[str]:
    """Whether the run is finished, and whether its end says what follows from its records.

    Args:
        records: Those that stand and can be read, in shard order.

    Returns:
        Keys of files that the newest success record names.
    """
    successes, begun = success_numbers(store, report.run), rework_numbers(store, report.run)
    report.problems += _check_numbers(report.run, successes, begun)
    last = successes[-1] if successes else -1
    rework = None
    if begun and begun[-1] > last:
        rework = _read(store, report.run, begun[-1], report.problems)
    report.unfinished = _unfinished(report, rework, records, bool(successes))
    if not successes:
        return set()
    newest = _check_chain(store, folder, report, successes)
    if newest is None:
        return set()
    key = layout.success_key(report.run, last)
    reworked = rework.shards if rework else {}
    report.problems += check_success(key, newest, records, reworked)
    report.problems += _missing_records(key, report, records)
    return set(_files_by_key(newest))


def check_success(
    key: str,
    success: Mapping[str, Any],
    records: Sequence[CommitRecord],
    reworked: Mapping[int, int],
) -> Iterator[Problem]:
    """The success record says what follows from the commit records.

    Args:
        reworked: Shards of an open rework, whose records may be newer: only the files of
            all others can be compared then.
    """
    expected = summarise(records, str(success.get("plan_id")), str(success.get("run")))
    if success.get("protocol") in KNOWN_PROTOCOLS:  # an earlier version says the same in its own
        expected["protocol"] = success["protocol"]
    for name, value in expected.items():
        if success.get(name) != value and name != "files" and not reworked:
            shown = f"{success.get(name)!r} instead of {value!r}"
            yield Problem(key, 0, "success", f"'{name}' differs from the records: {shown}")
    for shard_id in _differing(success, expected, set(reworked)):
        message = f"files of shard {shard_id} differ from its record"
        yield Problem(key, 0, "success", message, shard_id, "record")


def _check_numbers(run: str, successes: Sequence[int], begun: Sequence[int]) -> Iterator[Problem]:
    """Each success record follows one other, by the rework of its number."""
    last = successes[-1] if successes else -1
    if list(successes) != list(range(last + 1)):
        missing = min(set(range(last + 1)) - set(successes))
        yield Problem(layout.success_key(run, missing), 0, "success", "is gone, later ones stand")
    for number in range(1, last + 1):
        if number not in begun:
            key = layout.rework_key(run, number)
            yield Problem(key, 0, "rework", f"is gone, success record {number} stands")
    for number in begun:
        if number < 1 or number > last + 1:
            key = layout.rework_key(run, number)
            yield Problem(key, 0, "rework", f"success record {number - 1} does not stand before it")


def _check_chain(
    store: Store, folder: RunFolder, report: Report, numbers: Sequence[int]
) -> dict[str, Any] | None:
    """The newest success record; that a rework left all other shards alone is history."""
    before: dict[str, Any] | None = None
    for number in numbers:
        key = layout.success_key(report.run, number)
        try:
            success = folder.success(number)
        except (DamagedError, ObjectNotFoundError) as error:
            told = report.problems if number == numbers[-1] else report.remarks
            told.append(Problem(key, 0, "success", str(error)))
            success = None
        rework = _read(store, report.run, number, report.remarks) if number else None
        if success and before and rework:
            where = f"success record {number - 1}, and its rework does not name it"
            for shard_id in _differing(success, before, set(rework.shards)):
                message = f"files of shard {shard_id} differ from {where}"
                report.remarks.append(Problem(key, 0, "success", message))
        before = success
    return before


def _differing(
    success: Mapping[str, Any], expected: Mapping[str, Any], excepted: set[int]
) -> list[int]:
    """Shards whose files are others than expected."""
    ours, theirs = _files_by_shard(success), _files_by_shard(expected)
    compared = sorted((ours.keys() | theirs.keys()) - excepted)
    return [shard_id for shard_id in compared if ours.get(shard_id) != theirs.get(shard_id)]


def _files_by_shard(success: Mapping[str, Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    files = success.get("files")
    for file in files if isinstance(files, list) else ():
        shard_id = file.get("shard_id") if isinstance(file, dict) else None
        found.setdefault(shard_id if isinstance(shard_id, int) else -1, []).append(file)
    return found


def _files_by_key(success: Mapping[str, Any]) -> Iterator[str]:
    for files in _files_by_shard(success).values():
        yield from (str(file.get("key")) for file in files if isinstance(file, dict))


def _missing_records(
    key: str, report: Report, records: Sequence[CommitRecord]
) -> Iterator[Problem]:
    standing = {record.result.shard_id for record in records}
    known = {problem.shard_id for problem in report.problems if problem.file == "record"}
    for shard_id in range(report.shards):
        if shard_id not in standing and shard_id not in known:
            message = f"stands, yet shard {shard_id} has no record"
            yield Problem(key, 0, "success", message, shard_id, "record")


def _read(store: Store, run: str, number: int, told: list[Problem]) -> Rework | None:
    """A rework record; when it cannot be read, that is told."""
    try:
        return read_rework(store, run, number)
    except ObjectNotFoundError:
        return None  # its number was missed already
    except (DamagedError, InputError) as error:
        told.append(Problem(layout.rework_key(run, number), 0, "rework", str(error)))
        return None


def _unfinished(
    report: Report, rework: Rework | None, records: Sequence[CommitRecord], ended: bool
) -> str:
    """What is still to be done, in words."""
    if rework is not None:
        left = rework.left({record.result.shard_id: record.revision for record in records})
        what = f"{rework.word} {rework.number}: {len(left):,} of {len(rework.shards):,} shards"
        still = "are to be made again" if left else "are left, its success record is missing"
        return f"{what} {still}, go on with: {rework.command(report.url, report.run)}"
    if ended:
        return ""
    if missing := report.shards - len(records):
        return f"{missing:,} of {report.shards:,} shards are not committed"
    return "all shards are committed, the success record is missing"

"""The records that make a run's work exist: job, commits, success.

A shard is invisible until its one commit record is created, and no record ever changes:
that is the whole of safety, and it holds with any number of drivers, dead or slow. Files are
stored before the record that names them, and nobody who loses a race deletes anything.
This module knows records, not pictures; who renders what is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError, StorageError
from sdbatch.records import DataFile, ShardResult
from sdbatch.storage import layout
from sdbatch.storage.store import Store

PROTOCOL = 1
READERS = 16
WINDOW = 512  # records read ahead of their consumer


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A commit record, read back.

    Attributes:
        result: What the attempt made of the shard.
        revision: 0 for the first commit; a later retry or repair has a higher one.
        write_id: Unique to the call that wrote it.
    """

    result: ShardResult
    plan_id: str
    revision: int
    write_id: str

    @property
    def files(self) -> tuple[tuple[str, DataFile], ...]:
        """(kind, file) of everything the shard consists of."""
        files = (
            ("data", self.result.data),
            ("metadata", self.result.metadata),
            ("errors", self.result.errors_file),
        )
        return tuple((kind, file) for kind, file in files if file is not None)


class RunFolder:
    """The state folder of one run."""

    def __init__(self, store: Store, run: str = layout.MAIN) -> None:
        layout.state_prefix(run)
        self._store = store
        self._run = run

    def create_job(self, body: bytes) -> bytes:
        """Create `job.json` unless one stands; returns what stands.

        Raises:
            CommitUnknownError: Nobody knows what stands there.
        """
        key = layout.job_key(self._run)
        return body if self._store.create_once(key, body) else self._store.get(key)

    def read_job(self) -> dict[str, Any] | None:
        """What `job.json` holds; None when there is none.

        Raises:
            DamagedError: It is no JSON object.
            InputError: It was written by a later version.
        """
        key = layout.job_key(self._run)
        try:
            body = self._read(key)
        except ObjectNotFoundError:
            return None
        _check_protocol(self._store.join(key), body)
        return body

    def commit(self, result: ShardResult, plan_id: str, revision: int = 0) -> bool:
        """Make a shard exist; its files must be stored already. Safe to repeat.

        Returns:
            True when the standing record names this attempt's files.

        Raises:
            CommitUnknownError: What stands could not be found out; delete nothing.
        """
        key = layout.commit_key(self._run, result.shard_id, revision)
        body = {
            "protocol": PROTOCOL,
            "plan_id": plan_id,
            "revision": revision,
            "write_id": uuid.uuid4().hex,
            **asdict(result),
        }
        if self._store.create_once(key, _line(body)):
            return True
        # An earlier call of this same attempt may have won without hearing of it.
        standing = self.read_record(key)
        return standing.result.attempt == result.attempt and standing.result.data == result.data

    def committed(self) -> set[int]:
        """Shards that have a record, read from the names of the records alone."""
        return set(self.standing())

    def record(self, shard_id: int) -> CommitRecord | None:
        """The record that stands for a shard (highest revision), or None.

        Raises:
            DamagedError: It cannot be read.
        """
        keys = self.standing(layout.commit_prefix(self._run, shard_id))
        return self.read_record(keys[shard_id]) if shard_id in keys else None

    def records(self) -> Iterator[CommitRecord]:
        """The standing record of every committed shard, in shard order.

        Raises:
            DamagedError: One cannot be read.
        """
        newest = self.standing()
        keys = iter([newest[shard_id] for shard_id in sorted(newest)])
        if len(newest) <= READERS:
            yield from map(self.read_record, keys)
            return
        with ThreadPoolExecutor(READERS, thread_name_prefix="records") as pool:
            while window := list(islice(keys, WINDOW)):
                yield from pool.map(self.read_record, window)

    def standing(self, prefix: str | None = None) -> dict[int, str]:
        """Shard to the key of the record that stands for it: its highest revision.

        `prefix` narrows the listing; by default all records are listed.
        """
        newest: dict[int, tuple[int, str]] = {}
        for info in self._store.list(prefix or layout.commits_prefix(self._run)):
            parsed = layout.parse_commit(info.key)
            if parsed:
                shard_id, revision = parsed
                newest[shard_id] = max(newest.get(shard_id, (-1, "")), (revision, info.key))
        return {shard_id: key for shard_id, (_, key) in newest.items()}

    def read_record(self, key: str) -> CommitRecord:
        """Read one record by its key.

        Raises:
            ObjectNotFoundError: There is none.
            DamagedError: It is no commit record.
            InputError: It was written by a later version.
        """
        body = self._read(key)
        _check_protocol(self._store.join(key), body)
        try:
            return _parse_record(body)
        except (KeyError, TypeError) as error:
            raise DamagedError(self._store.join(key), f"no commit record ({error!r})") from error

    def create_success(self, plan_id: str, num_shards: int) -> dict[str, Any]:
        """Write down that every shard has its record, and which files the dataset is.

        The content follows from the records alone, so drivers that race write the same.
        A new record is added only when the newest one says something else.

        Raises:
            StorageError: Shards are missing.
        """
        body = summarise(self.records(), plan_id, self._run)
        if body["num_shards"] != num_shards:
            raise StorageError(
                f"{self._store.join(layout.commits_prefix(self._run))}: {body['num_shards']} of "
                f"{num_shards} shards are committed, run the command again to finish"
            )
        data = _line(body)
        while True:
            number = self._newest_success()
            if number is not None and self._store.get(self._success_key(number)) == data:
                return body
            following = 0 if number is None else number + 1
            if self._store.create_once(self._success_key(following), data):
                return body

    def success(self) -> dict[str, Any] | None:
        """The newest success record, or None while the run is unfinished.

        Raises:
            DamagedError: It cannot be read.
        """
        number = self._newest_success()
        return None if number is None else self._read(self._success_key(number))

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Replace `progress.json`; `at` (UTC, ISO) is added. Advisory: nobody decides by it."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._store.put(layout.progress_key(self._run), _line({"at": at, **progress}))

    def read_progress(self) -> dict[str, Any] | None:
        """What the driver last said; None when it said nothing readable."""
        try:
            return self._read(layout.progress_key(self._run))
        except (ObjectNotFoundError, DamagedError):
            return None

    def _newest_success(self) -> int | None:
        keys = (info.key for info in self._store.list(layout.successes_prefix(self._run)))
        numbers = [number for key in keys if (number := layout.parse_success(key)) is not None]
        return max(numbers, default=None)

    def _success_key(self, number: int) -> str:
        return layout.success_key(self._run, number)

    def _read(self, key: str) -> dict[str, Any]:
        try:
            body = json.loads(self._store.get(key))
        except ValueError as error:
            raise DamagedError(self._store.join(key), f"no JSON ({error})") from error
        if not isinstance(body, dict):
            raise DamagedError(self._store.join(key), "no JSON object")
        return body


def summarise(records: Iterable[CommitRecord], plan_id: str, run: str) -> dict[str, Any]:
    """The success record that follows from these commit records, given in shard order."""
    totals = dict.fromkeys(("num_shards", "num_rows", "success", "failed", "filtered"), 0)
    errors: dict[str, int] = {}
    files: list[dict[str, Any]] = []
    finished_at = ""
    root = hashlib.sha256()
    for record in records:
        result = record.result
        totals["num_shards"] += 1
        for name in ("num_rows", "success", "failed", "filtered"):
            totals[name] += getattr(result, name)
        for name, count in result.errors.items():
            errors[name] = errors.get(name, 0) + count
        finished_at = max(finished_at, result.finished_at)
        for kind, file in record.files:
            files.append({"kind": kind, "shard_id": result.shard_id, **asdict(file)})
            root.update(f"{file.key} {file.size_bytes} {file.sha256}\n".encode())
    return {
        "protocol": PROTOCOL,
        "plan_id": plan_id,
        "run": run,
        **totals,
        "images": totals["success"] + totals["failed"] + totals["filtered"],
        "errors": dict(sorted(errors.items())),
        "finished_at": finished_at,
        "root_sha256": root.hexdigest(),
        "files": files,
    }


def _parse_record(body: Mapping[str, Any]) -> CommitRecord:
    facts = dict(body)
    facts.pop("protocol")
    plan_id, revision, write_id = (facts.pop(name) for name in ("plan_id", "revision", "write_id"))
    for name in ("data", "metadata", "errors_file"):
        facts[name] = DataFile(**facts[name]) if facts[name] is not None else None
    if facts["data"] is None or facts["metadata"] is None:
        raise TypeError("a shard has no file")
    return CommitRecord(ShardResult(**facts), plan_id, revision, write_id)


def _check_protocol(where: str, body: Mapping[str, Any]) -> None:
    version = body.get("protocol")
    if isinstance(version, int) and version > PROTOCOL:
        raise InputError(f"{where}: protocol {version}, this sdbatch reads {PROTOCOL}, update it")
    if version != PROTOCOL:
        raise DamagedError(where, f"protocol {version!r} instead of {PROTOCOL}")


def _line(body: Mapping[str, Any]) -> bytes:
    """One ASCII line: no byte of it can be taken for a client's own framing."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"

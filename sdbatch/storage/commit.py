"""The records that make a run's work exist: job, commits, reworks, success.

A shard is invisible until its one commit record is created, and no record ever changes:
that is the whole of safety, and it holds with any number of drivers, dead or slow. Files are
stored before the record that names them, and nobody who loses a race deletes anything.
This module knows records, not pictures; who renders what is decided elsewhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError, StorageError
from sdbatch.records import Redo
from sdbatch.results import ShardResult
from sdbatch.storage import layout
from sdbatch.storage.record import (
    PROTOCOL,
    CommitRecord,
    parse_record,
    read_current,
    read_object,
    to_line,
)
from sdbatch.storage.rework import Rework, read_rework, rework_numbers
from sdbatch.storage.standing import (
    Bodies,
    Plan,
    Standing,
    find_standing,
    list_revisions,
    list_standing,
)
from sdbatch.storage.store import Store
from sdbatch.storage.success import newest_success, summarise

__all__ = ["PROTOCOL", "READERS", "CommitRecord", "RunFolder", "summarise"]

READERS = 16
WINDOW = 512  # records read ahead of their consumer


class RunFolder:
    """The state folder of one run."""

    def __init__(self, store: Store, run: str = layout.MAIN) -> None:
        layout.state_prefix(run)
        self._store = store
        self._run = run
        self._known_plan: Plan | None = None

    # -- the job -----------------------------------------------------------------------

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
        try:
            return read_current(self._store, layout.job_key(self._run))
        except ObjectNotFoundError:
            return None

    # -- commits -----------------------------------------------------------------------

    def commit(self, result: ShardResult, plan_id: str, revision: int = 0) -> bool:
        """Make a shard, or a revision of it, exist; its files must be stored already.

        Safe to repeat.

        Returns:
            True when the record of this revision names this attempt's files.

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
        if self._store.create_once(key, to_line(body)):
            return True
        # An earlier call of this same attempt may have won without hearing of it.
        standing = self.read_record(key)
        return standing.result.attempt == result.attempt and standing.result.data == result.data

    def committed(self) -> set[int]:
        """Shards that have a record: what a driver needs before its first lease.

        Read from names alone, by the newest compaction and listings of what it lacks.
        """
        return set(self._find().revisions)

    def record(self, shard_id: int) -> CommitRecord | None:
        """The record that stands for a shard (highest revision), or None.

        Raises:
            DamagedError: It cannot be read.
        """
        infos = self._store.list(layout.commit_prefix(self._run, shard_id))
        found = (parsed for info in infos if (parsed := layout.parse_commit(info.key)))
        revision = max((revision for _, revision in found), default=None)
        return None if revision is None else self.read_record(self._key(shard_id, revision))

    def records(self, *, certain: bool = False) -> Iterator[CommitRecord]:
        """The standing record of every committed shard, in shard order.

        Args:
            certain: List every record first and take copies from a compaction only where
                the store says that the copied object is still the same.

        Raises:
            DamagedError: One cannot be read; the text says how to go on.
        """
        try:
            yield from self._read(self._list() if certain else self._find())
        except DamagedError as error:
            if self.success_number() is None:
                raise self._mendable_by_hand(error) from error
            reason = f"{error.reason}, mend it with: sdbatch repair {self._store.url}"
            raise DamagedError(error.key, reason) from error

    def standing(self, *, certain: bool = False) -> dict[int, str]:
        """Shard to the key of the record that stands for it: its highest revision.

        Args:
            certain: List every record, whatever a compaction says.
        """
        found = self._list(copies=False) if certain else self._find()
        return {
            shard_id: self._key(shard_id, revision)
            for shard_id, revision in found.revisions.items()
        }

    def read_record(self, key: str) -> CommitRecord:
        """Read one record by its key.

        Raises:
            ObjectNotFoundError: There is none.
            DamagedError: It is no commit record.
            InputError: It was written by a later version.
        """
        return parse_record(self._store.join(key), self._store.get(key))

    # -- reworks -----------------------------------------------------------------------

    def next_revisions(self, shards: Iterable[int]) -> dict[int, int]:
        """Shard to the revision that a rework of it would make, from a fresh listing.

        Ask before looking for what is wrong with them: then `begin_rework` notices when another
        rework ended meanwhile.
        """
        wanted = sorted(set(shards))
        standing = list_revisions(self._store, self._run, wanted)
        return {shard_id: standing.get(shard_id, -1) + 1 for shard_id in wanted}

    def begin_rework(self, redo: Redo, shards: Mapping[int, int], plan_id: str) -> Rework:
        """Announce which shards are made once more; do this before anything else of it.

        Args:
            shards: Shard to its next revision: one above that of the record which was found
                wanting, or as `next_revisions` says.

        Returns:
            The rework that is open now: this one, or one that another driver began before.

        Raises:
            InputError: The run is not finished, or no shard is named.
            StorageError: Other records stand than those the targets were counted from: another
                rework ended meanwhile.
            DamagedError: The record of another shard cannot be read: the rework could not be
                closed.
            CommitUnknownError: What stands could not be found out.
        """
        if not shards:
            raise InputError(f"{self._store.url}: no shard is to be made again")
        while True:
            newest = newest_success(self._store, self._run)
            if newest is None:
                raise InputError(
                    f"{self._store.url}: run '{self._run}' is not finished, what is missing is "
                    "drawn by sdbatch render"
                )
            standing = self._open_after(newest)
            if standing is not None:
                return standing
            self._check_targets(self._list(), shards)
            created_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            rework = Rework(newest + 1, redo, dict(shards), plan_id, created_at)
            key = layout.rework_key(self._run, rework.number)
            if self._store.create_once(key, rework.to_line()):
                return rework

    def open_rework(self) -> Rework | None:
        """The rework that was begun and not closed, if there is one.

        Raises:
            DamagedError: It cannot be read.
        """
        begun = max(rework_numbers(self._store, self._run), default=0)
        newest = newest_success(self._store, self._run)
        if begun <= (-1 if newest is None else newest):
            return None
        return read_rework(self._store, self._run, begun) if begun else None

    def rework_left(self, rework: Rework) -> dict[int, int]:
        """Shards of a rework, and their revisions, that are still to be committed."""
        return rework.left(list_revisions(self._store, self._run, rework.shards))

    # -- the end -----------------------------------------------------------------------

    def create_success(self, plan_id: str, num_shards: int) -> dict[str, Any]:
        """Write down that every shard has its record, and which files the dataset is.

        Closes an open rework whose revisions all stand. The content follows from the
        records alone, so drivers that race write the same. A run that is finished already
        gets no further record.

        Raises:
            StorageError: Shards, or revisions of an open rework, are missing.
            DamagedError: A record cannot be read; the text says how to go on.
        """
        while True:
            # Looked up before the records: those of a later rework must not enter.
            newest = newest_success(self._store, self._run)
            rework = self._open_after(newest)
            if newest is not None and rework is None:
                return self._success(newest)
            standing = self._list()
            self._check_complete(standing.revisions, num_shards, rework)
            try:
                body = summarise(self._read(standing), plan_id, self._run)
            except DamagedError as error:
                raise self._mendable_by_hand(error) from error
            key = layout.success_key(self._run, 0 if newest is None else newest + 1)
            if self._store.create_once(key, to_line(body)):
                return body

    def success_number(self) -> int | None:
        """Number of the newest success record; None while there is none."""
        return newest_success(self._store, self._run)

    def success(self, number: int | None = None) -> dict[str, Any] | None:
        """A success record, by default the newest; None while there is none.

        While a rework is open this is the one before it: `finished` tells.

        Raises:
            DamagedError: It cannot be read.
        """
        number = newest_success(self._store, self._run) if number is None else number
        return None if number is None else self._success(number)

    def finished(self) -> bool:
        """Whether a success record stands and no rework is open; reads names alone."""
        begun = max(rework_numbers(self._store, self._run), default=0)
        newest = newest_success(self._store, self._run)
        return newest is not None and begun <= newest

    # -- advice ------------------------------------------------------------------------

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Replace `progress.json`; `at` (UTC, ISO) is added. Advisory: nobody decides by it."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._store.put(layout.progress_key(self._run), to_line({"at": at, **progress}))

    def read_progress(self) -> dict[str, Any] | None:
        """What the driver last said; None when it said nothing readable."""
        try:
            return read_object(self._store, layout.progress_key(self._run))
        except (ObjectNotFoundError, DamagedError):
            return None

    # ----------------------------------------------------------------------------------

    def plan(self) -> Plan | None:
        """Which plan the job is, and how many shards it has; None when no job says so."""
        if self._known_plan is None:
            try:
                job = self.read_job() or {}
            except DamagedError:
                job = {}
            plan_id, num_shards = job.get("plan_id"), job.get("num_shards")
            if isinstance(plan_id, str) and isinstance(num_shards, int):
                self._known_plan = Plan(plan_id, num_shards)
        return self._known_plan

    def _find(self) -> Standing:
        return find_standing(self._store, self._run, self.plan())

    def _list(self, *, copies: bool = True) -> Standing:
        return list_standing(self._store, self._run, self.plan(), copies=copies)

    def _read(self, standing: Standing) -> Iterator[CommitRecord]:
        """Records in shard order; those without a copy are read by several threads."""
        copies = Bodies(standing)
        shards = iter(sorted(standing.revisions))
        with ThreadPoolExecutor(READERS, thread_name_prefix="records") as pool:
            while window := list(islice(shards, WINDOW)):
                lines = {shard_id: copies.take(shard_id) for shard_id in window}
                keys = [
                    self._key(shard_id, standing.revisions[shard_id])
                    for shard_id, line in lines.items()
                    if line is None
                ]
                few = len(keys) <= READERS
                read = map(self.read_record, keys) if few else pool.map(self.read_record, keys)
                for shard_id, line in lines.items():
                    if line is None:
                        yield next(read)
                    else:
                        key = self._key(shard_id, line.revision)
                        yield parse_record(self._store.join(key), line.record)

    def _open_after(self, newest: int | None) -> Rework | None:
        """The rework that the next success record would close, if it was begun."""
        if newest is None:
            return None
        try:
            return read_rework(self._store, self._run, newest + 1)
        except ObjectNotFoundError:
            return None

    def _check_targets(self, standing: Standing, shards: Mapping[int, int]) -> None:
        """Targets follow what stands, and all other records can be read at the end."""
        if any(standing.revisions.get(one, -1) + 1 != target for one, target in shards.items()):
            raise StorageError(
                f"{self._store.url}: another retry or repair ended meanwhile, run the command again"
            )
        others = {one: rev for one, rev in standing.revisions.items() if one not in shards}
        try:
            for _ in self._read(replace(standing, revisions=others)):
                pass
        except DamagedError as error:
            reason = f"{error.reason}, mend it with sdbatch repair first"
            raise DamagedError(error.key, reason) from error

    def _check_complete(
        self, revisions: Mapping[int, int], num_shards: int, rework: Rework | None
    ) -> None:
        where = self._store.join(layout.commits_prefix(self._run))
        if len(revisions) != num_shards:
            raise StorageError(
                f"{where}: {len(revisions)} of {num_shards} shards are committed, "
                "run the command again to finish"
            )
        if rework is not None and (left := rework.left(revisions)):
            raise StorageError(
                f"{where}: {len(left)} of {len(rework.shards)} shards of {rework.word} "
                f"{rework.number} are not made again yet, go on with: "
                f"{rework.command(self._store.url, self._run)}"
            )

    def _mendable_by_hand(self, error: DamagedError) -> DamagedError:
        """A record that no rework can supersede, since none may begin before the run is finished.

        Nothing depends on it yet. Deleting it is for people alone: what one process cannot read,
        another one may have read.
        """
        copies = self._store.join(layout.compactions_prefix(self._run))
        way = f"delete it and all of {copies}, then run the command again: its shard is made again"
        return DamagedError(error.key, f"{error.reason}; {way}")

    def _success(self, number: int) -> dict[str, Any]:
        return read_object(self._store, layout.success_key(self._run, number))

    def _key(self, shard_id: int, revision: int) -> str:
        return layout.commit_key(self._run, shard_id, revision)

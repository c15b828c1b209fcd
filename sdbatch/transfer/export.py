"""`sdbatch export`: a dataset, or the part of it that a condition chooses, in another form.

A call reads what is committed, compares it with what stands at DEST, and writes the difference:
new rows go into new files; a file whose rows changed, or that is small and has new neighbours, is
retired first and its rows are written again. Every step may be the last one of a call: the next
call removes what has no record and goes on.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sdbatch.errors import DamagedError, InputError, LeaseHeldError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.lease import DriverLease, hold_lease
from sdbatch.storage.store import Store
from sdbatch.transfer.choice import ROW_BYTES, Choice
from sdbatch.transfer.ending import write_ending
from sdbatch.transfer.ledger import RUN, Closing, Ledger, OutputFile, ShardCount
from sdbatch.transfer.score_files import JoinedScores
from sdbatch.transfer.sources import Scores, Sources
from sdbatch.transfer.summary import ExportSummary
from sdbatch.transfer.terms import DEFAULT_SHARD_MB, MAX_SHARD_MB, settle
from sdbatch.transfer.tidying import live_files, read_rows, tidy
from sdbatch.transfer.writing import Writing

MB = 1_000_000
SMALL = 0.5
"""A file below this share of the size that was asked for is merged when rows come after it."""

_KNOWN = ["key", "sha256", "run_id", "shard_id"]


@dataclass
class Decision:
    """What a call decided.

    Attributes:
        counts: (run, shard) to what becomes of it.
        signatures: Place of every source that was read to its signature.
        read, failed, filtered: Pictures of all sources.
        stale: Numbers of finished files that must be written again.
    """

    counts: dict[tuple[str, int], ShardCount]
    signatures: dict[int, str]
    read: int
    failed: int
    filtered: int
    stale: set[int]


class Export:
    """One call of an export.

    Args:
        out: The dataset.
        dest: Where to; another store, or another folder of it.
        said: Terms that this call names; None for those it does not.
        shard_mb: Output files hold so many megabytes of pictures at most.
        note: Told how it goes.
        scores: Columns that are joined to the rows.
        title: Of the card; empty takes the name of DEST.

    Raises:
        InputError: A term cannot be met, DEST holds something else, or there is no run.
        PlanChangedError: DEST holds an export by other terms.
    """

    def __init__(
        self,
        out: Store,
        dest: Store,
        said: Mapping[str, Any],
        *,
        shard_mb: int | None = None,
        note: Callable[[str], None],
        scores: Scores | None = None,
        title: str = "",
    ) -> None:
        megabytes = DEFAULT_SHARD_MB if shard_mb is None else shard_mb
        if not 1 <= megabytes <= MAX_SHARD_MB:
            raise InputError(f"--shard-mb {megabytes}: use a number from 1 to {MAX_SHARD_MB:,}")
        self._file_bytes = megabytes * MB
        self._out, self._dest, self._note = out, dest, note
        self._title = title or dest.url.rstrip("/").rpartition("/")[2] or "export"
        self._started = time.monotonic()
        demand_apart(out, dest)
        job = RunFolder(out).read_job()
        if job is None:
            raise InputError(f"{out.url}: holds no run, name the output of sdbatch render")
        self._ledger = Ledger(dest)
        standing = self._ledger.terms()
        self.terms = settle(dest.url, {**said, "source": job["plan_id"]}, standing)
        if standing is None:
            demand_empty(dest)
        self._sources = Sources(out, scores or JoinedScores(out), self.terms.latest)

    def run(self) -> ExportSummary:
        """Bring DEST up to date.

        Raises:
            LeaseHeldError: Another export is at work there.
            StorageError: A store or the local disk failed; the same command goes on.
        """
        with TemporaryDirectory(prefix="sdbatch-export-") as scratch:
            folder = Path(scratch)
            Choice(self.terms, self._sources, folder / "rows.db").close()  # refuses in time
            with hold_lease(self._dest, RUN, on_wait=self._note) as lease:
                self._pin()
                tidy(self._dest, self._ledger, lambda: _demand_held(lease, self._dest))
                return self._update(folder, lease)

    # ----------------------------------------------------------------------------------------

    def _pin(self) -> None:
        self._ledger.pin(self.terms.to_body())
        settle(self._dest.url, self.terms.to_body(), self._ledger.terms())

    def _update(self, folder: Path, lease: DriverLease) -> ExportSummary:
        before = sum(file.rows.num_rows for file in self._live())
        while True:
            choice = Choice(self.terms, self._sources, folder / "rows.db")
            try:
                decision = self._decide(choice)
                if not decision.stale:
                    written = self._write(choice, decision, folder)
                    break
            finally:
                choice.close()
            self._note(f"{len(decision.stale):,} files are written again: rows changed or joined")
            self._ledger.retire(decision.stale)
            tidy(self._dest, self._ledger, lambda: _demand_held(lease, self._dest))
        return self._end(decision, written, before)

    def _live(self) -> list[OutputFile]:
        return live_files(self._ledger.files(), self._ledger.retired())

    def _decide(self, choice: Choice) -> Decision:
        files, retired = self._ledger.files(), self._ledger.retired()
        live, closing = live_files(files, retired), self._ledger.closing()
        decision = Decision({}, {}, 0, 0, 0, set())
        dirty: dict[tuple[str, int], int] = {}
        again = _shards_of(file for file in files if _is_undone(file, retired, closing))
        sources = []
        for source in self._sources:
            result = source.record.result
            decision.read += result.success + result.failed + result.filtered
            decision.failed += result.failed
            decision.filtered += result.filtered
            known = closing.shards.get(source.shard) if closing else None
            if known and known.signature == source.signature and not _holds(again, source.shard):
                decision.counts[source.shard] = known
            else:
                dirty[source.shard] = source.place
                sources.append(source)
        self._recall(choice, live, dirty)
        if self.terms.latest:
            for source in self._sources:
                if self._sources.rank(source.run):  # no run is older than the first
                    choice.note_newest(source)
        for source in sources:
            decision.counts[source.shard] = choice.take(source)
            decision.signatures[source.place] = source.signature
        columns = self._sources.columns_id
        other = {file.number for file in live if file.columns_id != columns}
        decision.stale = other | choice.changed() | self._small(choice, live, closing)
        return decision

    def _recall(
        self, choice: Choice, live: list[OutputFile], dirty: Mapping[tuple[str, int], int]
    ) -> None:
        """Let the choice know what stands of the shards that are read, and all names."""
        if not dirty:
            return
        ordered = sorted(dirty)
        for file in live:
            if file.columns_id != self._sources.columns_id:
                continue  # all of it is written again
            if any(_reaches(ordered, one) for one in file.shards):
                known = [*_KNOWN, *self._sources.scored]
                for batch in read_rows(self._dest, file.rows.key, known):
                    choice.know(batch, file.number, dirty)
            if self.terms.pictures or (self.terms.name and file.data):
                for batch in read_rows(self._dest, file.rows.key, choice.naming):
                    choice.hold_names(file.split, batch)

    def _small(self, choice: Choice, live: list[OutputFile], closing: Closing | None) -> set[int]:
        """The last file of each split that gets new rows, if it is small.

        Files of a call that was killed stay: its end is made up for as it would have been.
        """
        if self.terms.pictures:
            return set()
        known = closing.files if closing else 0
        return {
            file.number
            for split, file in {file.split: file for file in live}.items()
            if file.number < known
            and file.picture_bytes + ROW_BYTES * file.rows.num_rows < SMALL * self._file_bytes
            and choice.has_rows(split)
        }

    def _write(self, choice: Choice, decision: Decision, folder: Path) -> list[OutputFile]:
        planned = choice.cut(self._file_bytes)
        if not planned:
            return []
        pictures = sum(file.rows for file in planned)
        self._note(f"{pictures:,} pictures to write in {len(planned):,} files")
        files = self._ledger.files()
        numbers: dict[str, int] = {}
        for file in files:
            numbers[file.split] = max(numbers.get(file.split, 0), file.place + 1)
        writing = Writing(
            self.terms, self._sources, choice, self._dest, self._ledger, folder / "files",
            numbers, 1 + max((file.number for file in files), default=-1), self._note,
        )  # fmt: skip
        writing.write(planned, decision.signatures)
        return writing.written

    def _end(self, decision: Decision, written: list[OutputFile], before: int) -> ExportSummary:
        files, retired = self._ledger.files(), self._ledger.retired()
        live, closing = live_files(files, retired), self._ledger.closing()
        exported = sum(count.exported for count in decision.counts.values())
        standing = sum(file.rows.num_rows for file in live)
        if standing != exported:
            raise DamagedError(
                self._dest.url, f"{standing:,} rows stand in its files, {exported:,} are due"
            )
        summary = ExportSummary(
            dest=self._dest.url,
            format=self.terms.format,
            read=decision.read,
            exported=exported,
            left_out=sum(count.left_out for count in decision.counts.values()),
            older=sum(count.older for count in decision.counts.values()),
            failed=decision.failed,
            filtered=decision.filtered,
            new=exported - before,
            written=sum(file.rows.num_rows for file in written),
            files=len(live),
            splits={
                split: sum(file.rows.num_rows for file in live if file.split == split)
                for split in self.terms.splits.names
            },
            unfinished=tuple(
                run for run in self._sources.runs if not RunFolder(self._out, run).finished()
            ),
            seconds=round(time.monotonic() - self._started, 3),
        )
        number = closing.number + 1 if closing else 0
        now = Closing(number, len(files), retired, decision.counts)
        if closing is None or _facts(closing) != _facts(now):
            write_ending(self._dest, self.terms, self._sources, live, summary, self._title)
            self._ledger.close(now)
        return summary


def demand_apart(out: Store, dest: Store) -> None:
    """Refuse to write into the dataset that is read.

    Raises:
        InputError: DEST is OUT, or lies in it, or the other way round.
    """
    one, other = f"{out.url.rstrip('/')}/", f"{dest.url.rstrip('/')}/"
    if one.startswith(other) or other.startswith(one):
        raise InputError(f"{dest.url}: lies in the dataset or around it, name another folder")


def demand_empty(dest: Store) -> None:
    """Refuse to mix an export with anything else.

    Raises:
        InputError: DEST holds something that is no export.
    """
    begun = dest.exists_any(layout.state_prefix(RUN))
    if dest.exists_any() and (not begun or dest.exists_any(layout.state_prefix(layout.MAIN))):
        raise InputError(f"{dest.url}: holds other files, name an empty folder")


def _demand_held(lease: DriverLease, dest: Store) -> None:
    if lease.lost:
        raise LeaseHeldError(f"{dest.url}: another export took over, wait for it")


def _is_undone(file: OutputFile, retired: frozenset[int], closing: Closing | None) -> bool:
    """Whether the last finished call does not know the file as it is now."""
    if closing is None:
        return True
    return file.number >= closing.files or (
        file.number in retired and file.number not in closing.retired
    )


def _shards_of(files: Any) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for file in files:
        for run, first, last in file.shards:
            found.setdefault(run, []).append((first, last))
    return found


def _holds(ranges: Mapping[str, list[tuple[int, int]]], shard: tuple[str, int]) -> bool:
    run, shard_id = shard
    return any(first <= shard_id <= last for first, last in ranges.get(run, ()))


def _reaches(shards: list[tuple[str, int]], of: tuple[str, int, int]) -> bool:
    """Whether one of some sorted shards lies in a range."""
    run, first, last = of
    at = bisect_left(shards, (run, first))
    return at < len(shards) and shards[at] <= (run, last)


def _facts(closing: Closing) -> tuple[Any, ...]:
    return closing.files, closing.retired, closing.shards

"""Writes the chosen rows: one pass over the dataset, or several where rows are shuffled.

In the dataset's own order one pass fills the files of every split at once, and a file is finished
and exists as soon as its last row is in. In random order the rows of as many files as the
local disk has room for are spooled in one pass, and written from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.row_groups import ShardFile
from sdbatch.errors import StorageError
from sdbatch.results import DataFile
from sdbatch.storage.store import Store
from sdbatch.transfer.choice import Choice, Place, PlannedFile
from sdbatch.transfer.ledger import Ledger, OutputFile, new_attempt, ranges
from sdbatch.transfer.outputs import Output, Written, check_pictures, open_output
from sdbatch.transfer.sources import Source, Sources
from sdbatch.transfer.spool import OrderSpool
from sdbatch.transfer.terms import Terms

DISK_SHARE = 0.5
"""Of the free local disk, for spooled rows."""

SPOOLS = 128
"""Files spooled in one pass at most: each is open."""

SUFFIX = {"parquet": "parquet", "webdataset": "tar"}


@dataclass
class Open:
    """An output file in the making."""

    plan: PlannedFile
    attempt: str
    output: Output
    left: int
    shards: set[tuple[str, int]] = field(default_factory=set)


@dataclass
class Writing:
    """What a call writes.

    Attributes:
        numbers: Records of output files that stand, by split: how many.
        next_number: Of the next record.
        folder: Local, for files in the making.
        note: Told of each finished file.
    """

    terms: Terms
    sources: Sources
    choice: Choice
    store: Store
    ledger: Ledger
    folder: Path
    numbers: dict[str, int]
    next_number: int
    note: Callable[[str], None]
    written: list[OutputFile] = field(default_factory=list)

    def write(self, files: Sequence[PlannedFile], signatures: dict[int, str]) -> None:
        """Write all planned files.

        Args:
            files: As `Choice.cut` laid them out.
            signatures: Place of a source to its signature when it was decided about.

        Raises:
            StorageError: A store failed, or the dataset changed meanwhile; the same call goes on.
        """
        self._signatures = signatures
        self._totals = dict(self.numbers)
        for file in files:
            self._totals[file.split] = self._totals.get(file.split, 0) + 1
        if not self.terms.shuffle:
            self._straight(files)
            return
        for group in groups(files, self._room()):
            self._shuffled(group)

    # ----------------------------------------------------------------------------------------

    def _straight(self, files: Sequence[PlannedFile]) -> None:
        plans = {file.number: file for file in files}
        opened: dict[int, Open] = {}
        with ExitStack() as keep:
            for source, rows, places in self._chosen(None):
                for number, picked, of in _by_file(rows, places):
                    if number not in opened:
                        opened[number] = self._open(plans[number])
                        keep.enter_context(opened[number].output)
                    self._add(opened[number], source.shard, picked, [one.name for one in of])
                    if opened[number].left == 0:
                        self._commit(opened.pop(number))

    def _shuffled(self, files: Sequence[PlannedFile]) -> None:
        schema = self.sources.schema
        with ExitStack() as keep:
            spools: dict[int, OrderSpool] = {}
            shards: dict[int, set[tuple[str, int]]] = {file.number: set() for file in files}
            for file in files:
                spools[file.number] = OrderSpool(self.folder / f"spool-{file.number}.arrow", schema)
                keep.callback(spools[file.number].close)
            for source, rows, places in self._chosen([file.number for file in files]):
                for number, picked, of in _by_file(rows, places):
                    names, orders = [one.name for one in of], [one.order for one in of]
                    spools[number].add(picked, names, orders)
                    shards[number].add(source.shard)
            for file in files:
                one = self._open(file)
                keep.enter_context(one.output)
                one.shards = shards[file.number]
                for rows, names in spools[file.number].ordered():
                    self._add(one, None, rows, names)
                self._commit(one)

    def _chosen(
        self, files: Sequence[int] | None
    ) -> Iterator[tuple[Source, pa.RecordBatch, list[Place]]]:
        """Chosen rows with their pictures, in the order of the dataset, and their places."""
        due = set(self.choice.sources_of(files))
        for source in self.sources:
            if source.place not in due:
                continue
            due.discard(source.place)
            if self._signatures.get(source.place) != source.signature:
                raise self._changed()
            places = self.choice.places(source.place, files)
            where = self.sources.store.join(source.record.result.data.key)
            for rows in self.sources.rows(source, pictures=True):
                keys = rows.column("key").to_pylist()
                held = [at for at, key in enumerate(keys) if key in places]
                if held:
                    picked = rows.take(pa.array(held))
                    check_pictures(picked, where)
                    yield source, picked, [places.pop(keys[at]) for at in held]
            if places:
                raise self._changed()
        if due:
            raise self._changed()

    def _changed(self) -> StorageError:
        return StorageError(
            f"{self.sources.store.url}: its rows changed while they were exported, run the "
            "command again"
        )

    def _open(self, plan: PlannedFile) -> Open:
        attempt = new_attempt()
        if self.terms.pictures:
            # Whoever comes after a killed call removes what stands here and was not finished.
            path = self.folder / f"intent-{attempt}.parquet"
            self.folder.mkdir(parents=True, exist_ok=True)
            names = pa.table({"file_name": list(self.choice.file_names(plan.number))})
            pq.write_table(names, path)
            self.store.put_file(self.ledger.intent_key(attempt), path)
            path.unlink()
        output = open_output(self.folder / attempt, self.sources.schema, self.terms, self.store)
        return Open(plan, attempt, output, plan.rows)

    def _add(
        self, one: Open, shard: tuple[str, int] | None, rows: pa.RecordBatch, names: Sequence[str]
    ) -> None:
        one.output.add(rows, names)
        one.left -= rows.num_rows
        if shard is not None:
            one.shards.add(shard)

    def _commit(self, one: Open) -> None:
        """Store a finished file and let it exist."""
        written = one.output.finish()
        one.output.close()
        split, number = one.plan.split, self.next_number
        place = self.numbers.get(split, 0)
        data, rows = self._store_files(written, split, place, number, one.attempt)
        record = OutputFile(
            number, split, place, one.attempt, data, rows, one.plan.picture_bytes,
            ranges(one.shards),
            self.sources.columns_id,
        )  # fmt: skip
        self.ledger.add(record)
        self.written.append(record)
        self.numbers[split] = place + 1
        self.next_number += 1
        shutil.rmtree(self.folder / one.attempt, ignore_errors=True)
        if self.terms.pictures:
            self.store.delete(self.ledger.intent_key(one.attempt))
        self.note(f"{split} {place + 1} of {self._totals[split]}: {rows.num_rows:,} pictures")

    def _store_files(
        self, written: Written, split: str, place: int, number: int, attempt: str
    ) -> tuple[DataFile | None, DataFile]:
        if written.data is None:
            return None, self._store(self.ledger.rows_key(number, attempt), written.rows)
        # Named after its content: an attempt that is repeated overwrites what it left.
        name = f"{split}-{place:05d}-of-{self._totals[split]:05d}-{written.data.sha256[:8]}"
        data = self._store(f"data/{name}.{SUFFIX[self.terms.format]}", written.data)
        return data, self._store(f"metadata/{name}.parquet", written.rows)

    def _store(self, key: str, file: ShardFile) -> DataFile:
        self.store.put_file(key, file.path)
        return DataFile(key, file.num_rows, file.size_bytes, file.sha256)

    def _room(self) -> int:
        """Bytes that rows may take on local disk in one pass."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return int(shutil.disk_usage(self.folder).free * DISK_SHARE)


def groups(files: Sequence[PlannedFile], room: int) -> Iterator[list[PlannedFile]]:
    """Files that are spooled together: at least one, and no more than there is room for."""
    group: list[PlannedFile] = []
    held = 0
    for file in files:
        if group and (held + file.picture_bytes > room or len(group) >= SPOOLS):
            yield group
            group, held = [], 0
        group.append(file)
        held += file.picture_bytes
    if group:
        yield group


def _by_file(
    rows: pa.RecordBatch, places: Sequence[Place]
) -> Iterator[tuple[int, pa.RecordBatch, list[Place]]]:
    """Rows file by file, their order kept."""
    files = np.asarray([place.file for place in places])
    for number in dict.fromkeys(files.tolist()):
        held = np.flatnonzero(files == number)
        yield number, rows.take(pa.array(held)), [places[at] for at in held.tolist()]

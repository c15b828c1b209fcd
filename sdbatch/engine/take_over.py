"""What a revision of a shard keeps of the files that stand: everything but what is drawn again.

A retry keeps what its wish does not name, a repair whatever can be proven intact. Both take
nothing on trust: a file counts when its hash is that of its record, and out of one that
rotted only pictures count whose own hash stands in intact metadata. What is left over is
drawn again, from the seed that it was first drawn from as far as any intact file tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.layouts import PARQUET, WEBDATASET
from sdbatch.dataset.schema import spool_schema
from sdbatch.dataset.spool import Spool
from sdbatch.dataset.standing import (
    Row,
    is_sound,
    sampled_rows,
    standing_rows,
    unharmed_rows,
)
from sdbatch.engine.shard_pictures import layout_of, pictures_of, sampled_pictures, wanted
from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.plan.rows import hash_of
from sdbatch.plan.seeds import reseeded
from sdbatch.records import ImageId, Redo, RenderRow
from sdbatch.results import DataFile, ShardResult
from sdbatch.storage.store import Store

FAILED, FILTERED, DAMAGED = "failed", "filtered", "damaged"
FETCHES = 2  # a transfer may go wrong once; bytes that differ twice are what stands


def is_redone(redo: Redo, columns: Mapping[str, Any]) -> bool:
    """Whether a row of `errors/` or `filtered/` is one of those that are drawn again."""
    if columns["status"] != redo.kind:
        return False
    return not redo.error_types or columns["error_type"] in redo.error_types


@dataclass
class TakenOver:
    """What came of the standing files.

    Attributes:
        base: What the revision follows; None when nothing is known of it.
        images: Pictures that are in the spool now.
        seeds: Seeds of pictures that are to be drawn, where it is not the plan's.
    """

    base: ShardResult | None
    images: set[ImageId] = field(default_factory=set)
    seeds: dict[ImageId, int] = field(default_factory=dict)

    def request(self, row: RenderRow, model_revision: str) -> RenderRow:
        """What is drawn for a planned row."""
        seed = self.seeds.get(row.image_id, row.seed)
        if seed == row.seed:
            return row
        other = replace(row, seed=seed)
        return replace(other, row_hash=hash_of(other, model_revision))


class StandingShard:
    """The files of a committed shard, taken over into a spool.

    Args:
        store: Where they stand.
        base: Hashes and names.
        folder: Local disk for two files at a time.
    """

    def __init__(self, store: Store, base: ShardResult, folder: Path) -> None:
        self._store, self._base, self._folder = store, base, folder

    def take_over(self, redo: Redo, planned: Mapping[ImageId, int], spool: Spool) -> TakenOver:
        """Put into the spool what stays as it is.

        Args:
            redo: What does not.
            planned: Every picture of the shard, with the seed that the plan gives it.
            spool: Gets the rest; no part repeats it.

        Raises:
            StorageError: The store or the local disk failed; nothing is known then.
        """
        taken = TakenOver(self._base)
        drawn = self._pictures(redo, planned, spool, taken)
        failed = self._others(self._base.errors_file, redo, planned, spool, taken)
        filtered = self._others(self._base.filtered_file, redo, planned, spool, taken)
        again = filtered if redo.kind == FILTERED else failed
        if redo.reseed is not None:
            if again is None:  # no file says which pictures those are: all that are not taken over
                again = set() if drawn is None else planned.keys() - taken.images - drawn
            for image_id in again:
                taken.seeds[image_id] = reseeded(planned[image_id], redo.reseed)
        return taken

    def _pictures(
        self, redo: Redo, planned: Mapping[ImageId, int], spool: Spool, taken: TakenOver
    ) -> set[ImageId] | None:
        """Take over what was drawn; returns what that is, None when no intact file tells."""
        if layout_of(self._base.data.key) != PARQUET:
            return self._beside(redo, planned, spool, taken)
        with self._fetched(self._base.data) as (data, whole):
            if data and whole:
                rows = _readable(standing_rows(data))
                sound = (row for row in rows if redo.kind != DAMAGED or _or_seed(row, taken))
                return _keep(sound, planned, spool, taken)
            with self._fetched(self._base.metadata) as (metadata, described):
                if not metadata or not described:
                    return None
                for image_id, columns, _ in _readable(standing_rows(metadata)):
                    taken.seeds[image_id] = columns["seed"]
                drawn = set(taken.seeds)
                if data:
                    _keep(_readable(unharmed_rows(metadata, data)), planned, spool, taken)
                return drawn

    def _beside(
        self, redo: Redo, planned: Mapping[ImageId, int], spool: Spool, taken: TakenOver
    ) -> set[ImageId] | None:
        """The same where pictures stand in a tar, or in files of their own, beside their columns.

        Columns stand twice, in `metadata/` and with the pictures: one intact copy will do.
        """
        data_file, metadata_file = self._base.data, self._base.metadata
        with self._fetched(data_file) as (data, whole), self._fetched(metadata_file) as kept:
            metadata, described = kept
            rows: Callable[[], Iterator[Row]]
            if metadata and described:
                rows = partial(standing_rows, metadata)
            elif data and whole:
                rows = partial(standing_rows, data)
                if layout_of(data_file.key) == WEBDATASET:
                    rows = partial(sampled_rows, data, spool_schema(spool.schema).names)
            else:
                return None
            for image_id, columns, _ in _readable(rows()):
                taken.seeds[image_id] = columns["seed"]
            drawn = set(taken.seeds)
            found = self._with_pictures(data, rows)
            _keep(
                (row for row in found if redo.kind != DAMAGED or is_sound(row)),
                planned,
                spool,
                taken,
            )
            return drawn

    def _with_pictures(self, data: Path | None, rows: Callable[[], Iterator[Row]]) -> Iterator[Row]:
        """Rows whose picture is there, and is the one that the row describes."""
        columns = (columns for _, columns, _ in _readable(rows()))
        if layout_of(self._base.data.key) == WEBDATASET:
            pictures = sampled_pictures(data, columns) if data else iter(())
        else:
            pictures = pictures_of(self._store, self._base.data.key, wanted(columns))
        for (image_id, found, _), picture in zip(_readable(rows()), pictures, strict=False):
            if picture is not None and hashlib.sha256(picture).hexdigest() == found["sha256"]:
                yield image_id, found, picture

    def _others(
        self,
        file: DataFile | None,
        redo: Redo,
        planned: Mapping[ImageId, int],
        spool: Spool,
        taken: TakenOver,
    ) -> set[ImageId] | None:
        """Take over failures, or filtered pictures, that stay.

        Returns:
            Those that are redone, None when nobody knows.
        """
        if file is None:
            return set()
        with self._fetched(file) as (path, whole):
            if not path or not whole:
                return None
            rows = _readable(standing_rows(path))
            again = {row[0] for row in rows if is_redone(redo, row[1])}
            rows = _readable(standing_rows(path))  # read twice: tracebacks can be long
            kept = (row for row in rows if row[0] not in again)
            if redo.kind == DAMAGED:
                kept = (row for row in kept if row[2] is None or _or_seed(row, taken))
            _keep(kept, planned, spool, taken)
        return again & (planned.keys() - taken.images)

    @contextmanager
    def _fetched(self, file: DataFile) -> Iterator[tuple[Path | None, bool]]:
        """A local copy for as long as it is read, and whether it is what its record says."""
        path = self._folder / f"standing-{file.sha256[:16]}.parquet"
        try:
            there, digest = False, ""
            for _ in range(FETCHES):
                try:
                    self._store.get_file(file.key, path)
                except (ObjectNotFoundError, DamagedError):
                    continue
                there, digest = True, _sha256(path)
                if digest == file.sha256:
                    break
            yield (path if there else None), digest == file.sha256
        finally:
            path.unlink(missing_ok=True)


def _keep(
    rows: Iterable[Row], planned: Mapping[ImageId, int], spool: Spool, taken: TakenOver
) -> set[ImageId]:
    """Put rows into the spool; returns them."""
    kept: set[ImageId] = set()
    for image_id, columns, data in rows:
        if image_id in planned and spool.append(image_id, columns, data, saved=True):
            kept.add(image_id)
            taken.seeds.pop(image_id, None)
    taken.images |= kept
    return kept


def _readable(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows up to where a file stops making sense: even a file with the right hash may."""
    with suppress(DamagedError):
        yield from rows


def _or_seed(row: Row, taken: TakenOver) -> bool:
    """Whether a picture is sound; of one that is not, its seed is remembered."""
    sound = is_sound(row)
    if not sound:
        taken.seeds[row[0]] = row[1]["seed"]
    return sound


def _sha256(path: Path) -> str:
    with local_disk(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

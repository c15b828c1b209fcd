"""A leased shard while it is being drawn: which pictures wait, which are out, which are in.

Opening one reads its rows, what stands of it already where a revision is asked for, and
whatever an earlier attempt left in parts, so that only the rest is drawn. Everything
finished goes to the spool; the file that readers will see is written once, at the end, by
`engine/commit_shard.py`.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.columns import ImageFacts, failure_columns, image_columns
from sdbatch.dataset.images import encode
from sdbatch.dataset.picture_metadata import picture_metadata
from sdbatch.dataset.schema import schema_from_bytes
from sdbatch.dataset.spool import Spool
from sdbatch.engine.base_result import base_result
from sdbatch.engine.events import CARE_ALONE, CARE_NORMAL, Lease
from sdbatch.engine.nightly import with_missing
from sdbatch.engine.take_over import StandingShard, TakenOver
from sdbatch.errors import DamagedError, ManifestError, SdbatchError
from sdbatch.manifest.bad_rows import BadRows, read_bad_rows
from sdbatch.manifest.reader import read_rows
from sdbatch.manifest.texts import demand_texts
from sdbatch.model_specs import RenderEnv
from sdbatch.output_specs import ImageSpec
from sdbatch.plan.grouping import visiting_order
from sdbatch.plan.rows import Resolving, resolve_or_fail, rows_of_shard
from sdbatch.records import ImageId, RenderRow, RunSpec, Shard
from sdbatch.results import RenderedImage, RowFailure
from sdbatch.storage.layout import MAIN
from sdbatch.storage.parts import Parts
from sdbatch.storage.store import Store


class OpenShard:
    """One attempt at a shard. Rows are taken by the render thread, results may come from any.

    Attributes:
        lease: What the driver asked for.
        attempt: Eight hex digits unique to this attempt; they end its file names.
        user: The manifest's own columns of these rows, with `row_index`.
        spool: Finished pictures on local disk.
        reused: Pictures that an earlier attempt had finished, or that stand already.
        taken: What a revision took over from the standing files; None for a first commit.
        base: What the revision follows, if anything is known of that.
        attempts: Attempts at the shard so far, this one and those of its standing revision.
    """

    def __init__(
        self,
        lease: Lease,
        attempt: str,
        rows: list[RenderRow],
        user: pa.Table,
        spool: Spool,
        facts: ImageFacts,
        image: ImageSpec,
        unreadable: Sequence[RowFailure] = (),
        taken: TakenOver | None = None,
    ) -> None:
        self.lease = lease
        self.attempt = attempt
        self.taken = taken
        self.base = taken.base if taken else None
        self.attempts = lease.attempt + (self.base.attempts if self.base else 0)
        self.started_at = datetime.now(UTC)
        self.user = user
        self.spool = spool
        self._facts = replace(facts, shard_id=lease.shard.shard_id, attempts=self.attempts)
        self._image = image
        done = set(spool.image_ids())
        self.reused = len(done)
        self.num_images = len(rows) + len(unreadable)
        order = reversed(rows) if lease.reverse else rows
        self._waiting = deque(row for row in order if row.image_id not in done)
        self._out: set[ImageId] = set()
        self._lock = threading.Lock()
        self._unsaved = 0
        self._parts_saved = 0
        self._claimed = False
        for failure in unreadable:
            if failure.row.image_id not in done:
                self.finish(failure)
        if lease.give_up_first and self._waiting:
            self.finish(
                RowFailure(
                    self._waiting.popleft(),
                    "WorkerKilled",
                    "its worker died twice while this row was alone in flight",
                )
            )

    @property
    def alone(self) -> bool:
        """Whether pictures of this shard must be drawn one at a time."""
        return self.lease.care == CARE_ALONE

    @property
    def in_flight(self) -> int:
        """Pictures taken and not yet back."""
        return len(self._out)

    @property
    def finished(self) -> int:
        """Pictures that stand in the spool."""
        return len(self.spool)

    @property
    def complete(self) -> bool:
        """Whether every picture has its end."""
        return self.finished == self.num_images

    @property
    def part_due(self) -> bool:
        """Whether care demands a part now, whatever the clock says."""
        return self.unsaved > 0 and (
            self.alone or (self.lease.care > CARE_NORMAL and self.unsaved >= 4)
        )

    @property
    def unsaved(self) -> int:
        """Pictures in the spool that no part holds yet."""
        return self._unsaved

    def take(self) -> RenderRow | None:
        """The next row to draw, or None when none may be drawn now."""
        with self._lock:
            if not self._waiting or (self.alone and (self._out or self._unsaved)):
                return None
            row = self._waiting.popleft()
            while row.image_id in self.spool:  # another attempt drew it meanwhile
                if not self._waiting:
                    return None
                row = self._waiting.popleft()
            self._out.add(row.image_id)
            return row

    def holds(self, image_id: ImageId) -> bool:
        """Whether this picture is out on behalf of this shard."""
        return image_id in self._out

    def finish(self, result: RenderedImage | RowFailure) -> None:
        """Encode a result and put it into the spool.

        Raises:
            StorageError: The local disk is full.
        """
        if isinstance(result, RowFailure):
            columns, data = failure_columns(result, self._facts), None
        else:
            level, facts = self._image.metadata, self._facts
            said = picture_metadata(result.row, level, facts.model, facts.model_revision)
            encoded = encode(result.pixels, self._image, said)
            columns, data = image_columns(result, encoded, self._facts), encoded.data
        with self._lock:
            fresh = self.spool.append(result.row.image_id, columns, data)
            self._out.discard(result.row.image_id)
            self._unsaved += fresh

    def claim_commit(self) -> bool:
        """True for exactly one caller, once every picture has its end."""
        with self._lock:
            if self._claimed or not self.complete:
                return False
            self._claimed = True
            return True

    def save_part(self, parts: Parts, folder: Path) -> None:
        """Store what is finished and not yet in a part.

        Raises:
            StorageError: The store did not take it.
        """
        with self._lock:
            if self._claimed or not self._unsaved:
                return
            number, self._parts_saved = self._parts_saved, self._parts_saved + 1
            path = folder / f"{self.attempt}-{number}.part"
            images = self.spool.write_part(path)
            self._unsaved -= len(images)
        try:
            shard_id, revision = self.lease.shard.shard_id, self.lease.revision
            parts.store(shard_id, self.attempt, number, path, images, revision=revision)
        except BaseException:
            with self._lock:
                self.spool.forget_part(images)
                self._unsaved += len(images)
            raise
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete the spool."""
        self.spool.close()


class ShardOpener:
    """Turns leases into open shards: reads rows, repeat numbers and parts."""

    def __init__(self, store: Store, spec: RunSpec, env: RenderEnv, folder: Path) -> None:
        self._store, self._spec, self._folder = store, spec, folder
        self._parts = Parts(store, spec.run)
        self._schema = schema_from_bytes(store.get(spec.schema_key))
        self._facts = ImageFacts.of(spec, env)
        self._repeats = _read_occurrences(store, spec.occurrences_key)

    def open(self, lease: Lease) -> OpenShard:
        """Read a shard's rows and take over what earlier attempts stored in parts.

        Raises:
            ManifestError: The manifest is not what it was when the plan was made.
            StorageError: Parts or the local disk cannot be used.
        """
        attempt = uuid.uuid4().hex[:8]
        bad = _read_bad_rows(self._store, self._spec.bad_rows_key, lease.shard)
        rows, unreadable, user = shard_rows(lease.shard, self._spec, self._repeats, bad)
        if self._spec.run != MAIN:  # the columns are those of the first run
            user = with_missing(user, self._schema)
        taken: TakenOver | None = None
        spool = Spool(self._folder / f"{lease.shard.shard_id:05d}-{attempt}", self._schema)
        try:
            if lease.revision:
                taken = self._take_over(lease, [*rows, *(one.row for one in unreadable)], spool)
                rows = [taken.request(row, self._spec.render.weights_revision) for row in rows]
            self._load_parts(lease, attempt, spool)
        except BaseException:
            spool.close()
            raise
        image = self._spec.image
        return OpenShard(lease, attempt, rows, user, spool, self._facts, image, unreadable, taken)

    def _take_over(self, lease: Lease, rows: Sequence[RenderRow], spool: Spool) -> TakenOver:
        redo, shard_id = self._spec.redo, lease.shard.shard_id
        if redo is None:
            raise SdbatchError(f"shard {shard_id:05d}: leased for a revision without a reason")
        base = base_result(self._store, self._spec.run, shard_id, lease.revision)
        if base is None:
            return TakenOver(None)
        planned = {row.image_id: row.seed for row in rows}
        return StandingShard(self._store, base, self._folder).take_over(redo, planned, spool)

    def catch_up(self, shard: OpenShard) -> None:
        """Take over what another attempt has stored in parts since.

        Raises:
            StorageError: Parts or the local disk cannot be used.
        """
        self._load_parts(shard.lease, shard.attempt, shard.spool)

    def _load_parts(self, lease: Lease, attempt: str, spool: Spool) -> None:
        for part in self._parts.list(lease.shard.shard_id, revision=lease.revision):
            if part.attempt == attempt or all(image_id in spool for image_id in part.images):
                continue
            path = self._folder / f"{attempt}.fetched"
            if self._parts.fetch(part, path):
                with suppress(DamagedError):  # of a part that breaks off, the rest is drawn
                    spool.load_part(path)
            path.unlink(missing_ok=True)


def shard_rows(
    shard: Shard, spec: RunSpec, occurrences: Mapping[int, int], bad: BadRows | None = None
) -> tuple[list[RenderRow], list[RowFailure], pa.Table]:
    """Read a shard's rows.

    Args:
        shard: Which rows.
        spec: The run.
        occurrences: Row position to how many equal rows precede it.
        bad: Rows of the shard that fail undrawn.

    Returns:
        Pictures in visiting order, pictures of rows that no model can read, and manifest
        columns with `row_index`.

    Raises:
        ManifestError: The manifest is not what it was when the plan was made, or holds a
            text that is no UTF-8.
    """
    lenient = bad is not None
    first, end = shard.first_row, shard.end_row
    window = read_rows(spec.manifest, first, end, storage=spec.storage, lenient=lenient)
    if bad is not None:
        window = bad.mend(window, np.arange(shard.first_row, shard.end_row))
    table, row_indices = rows_of_shard(window, shard, spec.defaults)
    # Rows may be unchecked, and no reader opens a dataset that holds a broken text.
    demand_texts(spec.manifest.name, table, row_indices)
    how = Resolving(
        manifest=spec.manifest.name,
        defaults=spec.defaults,
        seed=spec.seed,
        hash_rows=spec.hash_rows,
        occurrences=occurrences,
        model_revision=spec.render.weights_revision,
    )
    rows, unreadable = resolve_or_fail(table, row_indices, how)
    if bad is not None:
        rows, unreadable = _failed_undrawn(rows, unreadable, bad.messages(), spec.manifest.name)
    return visiting_order(rows), unreadable, table.append_column("row_index", pa.array(row_indices))


def _failed_undrawn(
    rows: list[RenderRow],
    unreadable: list[RowFailure],
    messages: Mapping[int, str],
    manifest: str,
) -> tuple[list[RenderRow], list[RowFailure]]:
    """Pictures of bad rows taken out of those to draw, each with what the check said."""
    requests = [*(row for row in rows if row.row_index in messages)]
    requests += [one.row for one in unreadable if one.row.row_index in messages]
    failures = [one for one in unreadable if one.row.row_index not in messages]
    for row in requests:
        said = f"{manifest}, row {row.row_index}, {messages[row.row_index]}"
        failures.append(RowFailure(row, ManifestError.__name__, said))
    return [row for row in rows if row.row_index not in messages], failures


def _read_bad_rows(store: Store, key: str, shard: Shard) -> BadRows | None:
    if not key:
        return None
    with store.open(key) as file:
        bad = read_bad_rows(file, shard.first_row, shard.end_row)
    return bad if bad.cells.num_rows else None


def _read_occurrences(store: Store, key: str) -> dict[int, int]:
    if not key:
        return {}
    with store.open(key) as file:
        table = pq.ParquetFile(file, pre_buffer=False).read(use_threads=False)
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))

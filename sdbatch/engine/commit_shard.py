"""The end of a shard: spool to files, files to the store, and last the commit record.

The order is the whole point. Nothing is visible until the record exists; whoever loses
the race for it deletes nothing, and gc takes the files after the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from sdbatch.dataset.layouts import write_shard
from sdbatch.engine.events import ShardDone
from sdbatch.engine.filtering import choose_filtered, count_unscored
from sdbatch.engine.open_shard import OpenShard
from sdbatch.engine.upload import ShardUpload
from sdbatch.errors import StorageError
from sdbatch.records import RunSpec
from sdbatch.render.protocol import Renderer
from sdbatch.results import ShardResult
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store

STEPS = ("row_steps", "lane_steps", "lane_slots")


@dataclass
class Ledger:
    """What a worker has spent, handed to its shards bit by bit.

    A worker draws several shards at once, so a shard's share is what was spent since the
    commit before it. Sums over all shards are exact; a single shard's figures are not.
    """

    renderer: Renderer
    load_seconds: float
    _own: dict[str, float] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside to a phase; threads may overlap."""
        started = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._own[name] = self._own.get(name, 0.0) + time.monotonic() - started

    def take(self) -> dict[str, float]:
        """Everything spent since the last call: phases by name, and the three step counts."""
        counters = self.renderer.counters
        with self._lock:
            total = {**counters.phase_seconds, **self._own, "load": self.load_seconds}
            total |= {
                "row_steps": counters.row_steps,
                "lane_steps": counters.lane_steps,
                "lane_slots": counters.lane_slots,
            }
            spent = {name: value - self._told.get(name, 0) for name, value in total.items()}
            self._told = total
        return spent


def commit_shard(
    shard: OpenShard, store: Store, spec: RunSpec, worker: str, ledger: Ledger, folder: Path
) -> ShardDone:
    """Write, upload and commit a finished shard.

    Raises:
        StorageError: Disk or store failed; nothing of this attempt is visible.
        CommitUnknownError: The record may or may not exist; nothing was deleted.
    """
    with ledger.phase("write"):
        files = write_shard(
            shard.spool,
            shard.user,
            folder / shard.attempt,
            spec.plan_id,
            spec.run,
            filtered=choose_filtered(shard.spool, spec, shard.user),
            output=spec.output_spec,
        )
        shard_id = shard.lease.shard.shard_id
        upload = ShardUpload(store, spec, shard_id, shard.attempt)
        upload.put_loose(files.loose())
        data = upload.put("data", files.data)
        metadata = upload.put("metadata", files.metadata)
        errors = upload.put_optional("errors", files.errors)
        filtered = upload.put_optional("filtered", files.filtered_file)
    spent = _with_before(ledger.take(), shard)
    steps = {name: int(spent.pop(name)) for name in STEPS}
    result = ShardResult(
        shard_id=shard_id,
        attempt=shard.attempt,
        data=data,
        metadata=metadata,
        errors_file=errors,
        num_rows=shard.lease.shard.num_rows,
        success=files.success,
        failed=files.failed,
        filtered=files.filtered,
        images_sha256=files.images_sha256,
        errors=files.error_counts,
        started_at=shard.started_at.isoformat(timespec="milliseconds"),
        finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        phase_seconds={name: round(value, 4) for name, value in spent.items()},
        worker=worker,
        device_name=ledger.renderer.env.device_name,
        attempts=shard.attempts,
        filtered_file=filtered,
        **steps,
    )
    unscored = count_unscored(shard.spool, spec.score_columns)
    done = _record(RunFolder(store, spec.run), result, spec.plan_id, worker, shard)
    return replace(done, unscored=unscored, notes=ledger.renderer.notes)


def _with_before(spent: Mapping[str, float], shard: OpenShard) -> dict[str, float]:
    """What the pictures of a shard took in all: a revision adds to what it follows."""
    total = dict(spent)
    base = shard.base
    if base is not None:
        before = dict(base.phase_seconds) | {name: getattr(base, name) for name in STEPS}
        for name, value in before.items():
            total[name] = total.get(name, 0) + value
    return total


def _record(
    folder: RunFolder, result: ShardResult, plan_id: str, worker: str, shard: OpenShard
) -> ShardDone:
    won = folder.commit(result, plan_id, revision=shard.lease.revision)
    if not won:
        standing = folder.record(result.shard_id)
        if standing is None:
            raise StorageError(f"commit record of shard {result.shard_id} refused yet not there")
        result = standing.result
    return ShardDone(
        worker=worker,
        shard_id=result.shard_id,
        won=won,
        success=result.success,
        failed=result.failed,
        filtered=result.filtered,
        row_steps=result.row_steps if won else 0,
        lane_steps=result.lane_steps if won else 0,
        lane_slots=result.lane_slots if won else 0,
        phase_seconds=result.phase_seconds if won else {},
        taken_over=len(shard.taken.images) if shard.taken else 0,
    )

"""What a retry or a repair came to, and whether what it made is what stood before."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from sdbatch.dataset.standing import standing_rows
from sdbatch.engine.base_result import base_result
from sdbatch.engine.rework_choice import count_redone
from sdbatch.engine.summary import Summary
from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.results import DataFile, ShardResult
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.rework import Rework
from sdbatch.storage.store import Store

NAMED = 8  # pictures that a note names


@dataclass(frozen=True, slots=True)
class RetrySummary(Summary):
    """Counts of the dataset as it is now, and what the retry did; see `Summary`.

    Attributes:
        shards_again: Shards that were made again; all others keep their bytes.
        retried: Pictures that were to be drawn again.
        now_success: Pictures that are in the dataset now and were not before.
        still_failed: Pictures that were drawn again in vain.
    """

    shards_again: int = 0
    retried: int = 0
    now_success: int = 0
    still_failed: int = 0

    @property
    def said(self) -> str:
        """The retry in one line."""
        rest = "failed or filtered again" if self.filtered else "still failed"
        return (
            f"retried {self.retried:,} pictures: {self.now_success:,} now success, "
            f"{self.still_failed:,} {rest}"
        )


@dataclass(frozen=True, slots=True)
class RepairSummary(Summary):
    """Counts of the dataset as it is now, and what the repair did; see `Summary`.

    Attributes:
        shards_again: Damaged shards that were made again; all others keep their bytes.
        drawn_again: Pictures that this call drew; the others were proven intact.
        differ: Pictures that are not what stood before.
    """

    shards_again: int = 0
    drawn_again: int = 0
    differ: int = 0

    @property
    def said(self) -> str:
        """The repair in one line."""
        return (
            f"repaired {self.shards_again:,} shards: {self.drawn_again:,} pictures drawn again, "
            f"{self.differ:,} differ from what stood before"
        )


def retried(summary: Summary, store: Store, run: str, rework: Rework) -> RetrySummary:
    """A summary with what a retry did, whichever calls did it."""
    asked = gained = 0
    for before, after in _revised(store, run, rework):
        if before is not None:
            asked += count_redone(rework.redo, before)
            gained += after.success - before.success
    return RetrySummary(
        **asdict(summary),
        shards_again=len(rework.shards),
        retried=asked,
        now_success=max(gained, 0),
        still_failed=max(asked - gained, 0),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """Pictures of a repaired shard that are not what stood before.

    Attributes:
        keys: Those that can be named; None when too little was left to compare with.
    """

    shard_id: int
    keys: tuple[str, ...] | None

    def describe(self) -> str:
        """One line for a person."""
        place = f"note: shard {self.shard_id:05d}"
        if self.keys is None:
            return f"{place}: too little was left to compare its pictures with what stood before"
        shown = ", ".join(self.keys[:NAMED]) + (", ..." if len(self.keys) > NAMED else "")
        return f"{place}: {len(self.keys):,} pictures differ from what stood before: {shown}"


def differences(store: Store, run: str, rework: Rework, intact: set[int]) -> Iterator[Difference]:
    """Compare repaired shards with what stood before, as far as intact metadata tells.

    Args:
        store: The dataset; files of the revision before must not have been collected yet.
        run: Its run.
        rework: A repair whose revisions all stand.
        intact: Shards of which no picture was drawn again.

    Raises:
        StorageError: The store failed.
    """
    with tempfile.TemporaryDirectory(prefix="sdbatch-compare-") as folder:
        for before, after in _revised(store, run, rework):
            shard_id = after.shard_id
            same_ends = before is not None and before.images_sha256 in ("", after.images_sha256)
            if shard_id in intact and same_ends:
                continue
            was = _pixels(store, before.metadata, Path(folder)) if before else None
            now = _pixels(store, after.metadata, Path(folder))
            if was is None or now is None:
                yield Difference(shard_id, None)
                continue
            names = sorted(was.keys() | now.keys())
            keys = tuple(name for name in names if was.get(name) != now.get(name))
            if keys or not same_ends:
                yield Difference(shard_id, keys or None)


def _revised(
    store: Store, run: str, rework: Rework
) -> Iterator[tuple[ShardResult | None, ShardResult]]:
    """(before, after) of every shard of a rework; None where nothing is known of before."""
    folder = RunFolder(store, run)
    for shard_id, revision in sorted(rework.shards.items()):
        after = folder.read_record(layout.commit_key(run, shard_id, revision))
        yield base_result(store, run, shard_id, revision), after.result


def _pixels(store: Store, file: DataFile, folder: Path) -> dict[str, str] | None:
    """Key to `pixel_sha256` of the pictures in a metadata file; None when it is not intact."""
    path = folder / "metadata.parquet"
    try:
        store.get_file(file.key, path)
        with path.open("rb") as source:
            if hashlib.file_digest(source, "sha256").hexdigest() != file.sha256:
                return None
        return {row["key"]: row["pixel_sha256"] for _, row, _ in standing_rows(path)}
    except (ObjectNotFoundError, DamagedError):
        return None
    finally:
        path.unlink(missing_ok=True)

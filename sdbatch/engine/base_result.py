"""What a revision of a shard follows: the facts of the record below it, or what else tells.

A commit record can rot or be lost like any object, and none is ever replaced. The success
record names the same files with the same hashes, so a repair need not draw them again.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.results import DataFile, ShardResult
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store


def base_result(store: Store, run: str, shard_id: int, revision: int) -> ShardResult | None:
    """The facts that a revision follows: of the highest record below it that can be read.

    Where that record is lost, its files are known from the newest success record that can be
    read, and nothing but its files. None when nothing tells.

    Raises:
        StorageError: The store failed.
    """
    folder = RunFolder(store, run)
    for below in range(revision - 1, -1, -1):
        try:
            return folder.read_record(layout.commit_key(run, shard_id, below)).result
        except ObjectNotFoundError:
            continue
        except DamagedError:
            break  # the revisions below it are of files that are gone
    newest = folder.success_number()
    for number in range(-1 if newest is None else newest, -1, -1):
        with suppress(DamagedError, ObjectNotFoundError, KeyError, TypeError):
            success = folder.success(number) or {}
            return _from_success(success["files"], shard_id)
    return None


def _from_success(files: list[dict[str, Any]], shard_id: int) -> ShardResult:
    """A shard's result as far as a success record tells: its files.

    Raises:
        KeyError: It names no such shard.
    """
    found = {
        file["kind"]: DataFile(file["key"], file["num_rows"], file["size_bytes"], file["sha256"])
        for file in files
        if file["shard_id"] == shard_id
    }
    errors, filtered = found.get("errors"), found.get("filtered")
    return ShardResult(
        shard_id=shard_id,
        attempt="",
        data=found["data"],
        metadata=found["metadata"],
        errors_file=errors,
        num_rows=0,
        success=found["data"].num_rows,
        failed=errors.num_rows if errors else 0,
        filtered=filtered.num_rows if filtered else 0,
        images_sha256="",
        errors={},
        started_at="",
        finished_at="",
        phase_seconds={},
        row_steps=0,
        lane_steps=0,
        lane_slots=0,
        worker="",
        device_name="",
        attempts=0,
        filtered_file=filtered,
    )

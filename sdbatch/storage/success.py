"""The success record: which files a finished dataset consists of.

It follows from the standing commit records alone, so drivers that race to write it write
the same bytes. The first is number 0; each rework that is closed adds the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sdbatch.storage import layout
from sdbatch.storage.record import PROTOCOL, CommitRecord
from sdbatch.storage.store import Store


def newest_success(store: Store, run: str) -> int | None:
    """Number of the newest success record; None while there is none."""
    return max(success_numbers(store, run), default=None)


def success_numbers(store: Store, run: str) -> list[int]:
    """Numbers of all success records, rising."""
    keys = (info.key for info in store.list(layout.successes_prefix(run)))
    return sorted(number for key in keys if (number := layout.parse_success(key)) is not None)


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

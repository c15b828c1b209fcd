"""Parts of an open shard: finished pictures put aside so that a dead worker costs little.

A part is a cache and nothing more. A missing, torn or foreign one is simply not
used, and the dataset is the same with or without them. The description is stored after
the pictures it describes, and a fetched part counts only if its hash fits. Each revision
has its own: an old part may hold the very failure that is to be made good.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.records import ImageId
from sdbatch.storage import layout
from sdbatch.storage.chunks import naming
from sdbatch.storage.store import Store

PROTOCOL = 1


@dataclass(frozen=True, slots=True)
class PartRecord:
    """What a part holds.

    Attributes:
        number: From 0, counting the parts of its attempt.
        images: Pictures in it, in the order of its rows.
    """

    shard_id: int
    attempt: str
    number: int
    key: str
    size_bytes: int
    sha256: str
    images: tuple[ImageId, ...]


class Parts:
    """The parts of one run."""

    def __init__(self, store: Store, run: str = layout.MAIN) -> None:
        self._store = store
        self._run = run

    def store(
        self,
        shard_id: int,
        attempt: str,
        number: int,
        local_path: str | os.PathLike[str],
        images: Sequence[ImageId],
        revision: int = 0,
    ) -> PartRecord:
        """Put a closed local file aside as a part of the revision that is being made.

        Raises:
            StorageError: The store did not take it; the shard goes on without.
        """
        key = layout.part_key(self._run, shard_id, attempt, number, "parquet", revision)
        sha256 = _sha256(local_path)
        info = self._store.put_file(key, local_path)
        pairs = tuple((int(row), int(image)) for row, image in images)
        part = PartRecord(shard_id, attempt, number, key, info.size_bytes, sha256, pairs)
        body = json.dumps({"protocol": PROTOCOL, **asdict(part)}, separators=(",", ":"))
        record = layout.part_key(self._run, shard_id, attempt, number, "json", revision)
        self._store.put(record, body.encode())
        return part

    def list(self, shard_id: int, revision: int = 0) -> builtins.list[PartRecord]:
        """Parts of a revision from all attempts, by key; unreadable descriptions are left out."""
        parts = []
        for info in self._store.list(layout.parts_prefix(self._run, shard_id, revision)):
            if info.key.endswith(".json"):
                with suppress(ObjectNotFoundError, ValueError, KeyError, TypeError):
                    part = _parse(self._store.get(info.key))
                    if part.key == info.key.removesuffix("json") + "parquet":
                        parts.append(part)
        return parts

    def fetch(self, part: PartRecord, to_path: str | os.PathLike[str]) -> bool:
        """Copy a part to a local file; False, and no file, when it is missing or differs."""
        try:
            self._store.get_file(part.key, to_path)
            if _sha256(to_path) == part.sha256:
                return True
        except (ObjectNotFoundError, DamagedError):
            pass
        Path(to_path).unlink(missing_ok=True)
        return False

    def drop(self, shard_id: int, revision: int = 0) -> None:
        """Delete all parts of a revision, descriptions first; safe to repeat."""
        prefix = layout.parts_prefix(self._run, shard_id, revision)
        keys = [info.key for info in self._store.list(prefix)]
        for key in sorted(keys, key=lambda key: not key.endswith(".json")):
            self._store.delete(key)


def _parse(data: bytes) -> PartRecord:
    body = json.loads(data)
    if body.pop("protocol") != PROTOCOL:
        raise ValueError("another protocol")
    body["images"] = tuple((int(row), int(image)) for row, image in body["images"])
    return PartRecord(**body)


def _sha256(path: str | os.PathLike[str]) -> str:
    with naming(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

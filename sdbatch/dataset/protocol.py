"""What every layout of a dataset must offer, and what a finished shard reports.

A layout is one file beside `parquet.py` with a function of this shape. It reads the
spool in order, once, and writes local files; where they go is for others to say.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from sdbatch.dataset.row_groups import ShardFile
from sdbatch.dataset.spool import Spool
from sdbatch.records import RowStatus


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """Local files of a finished shard, and its counts.

    Attributes:
        errors: None when nothing failed.
        error_counts: Error type to number of pictures.
        images_sha256: Hash over the ordered picture keys and their ends.
    """

    data: ShardFile
    metadata: ShardFile
    errors: ShardFile | None
    success: int
    failed: int
    filtered: int
    error_counts: Mapping[str, int]
    images_sha256: str


class DatasetWriter(Protocol):
    """Writes the files of one shard."""

    def __call__(
        self, spool: Spool, user: pa.Table, folder: Path, plan_id: str, run: str
    ) -> ShardFiles:
        """Write all files of a shard into `folder`, made if absent.

        Args:
            spool: Every picture of the shard; it also carries the frozen schema.
            user: The manifest's own columns, and `row_index` to find rows by.
            folder: Local.
            plan_id: Goes into footers, for those who find a lone file.
            run: Likewise.

        Raises:
            StorageError: The local disk is full.
        """
        ...


@dataclass
class Tally:
    """Counts a shard's pictures by how they ended. Pictures must come in order."""

    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    _ends: Counter[str] = field(default_factory=Counter)
    _errors: Counter[str] = field(default_factory=Counter)

    def add(self, key: str, status: str, error_type: str = "") -> None:
        """Count one picture."""
        self._hash.update(f"{key} {status}\n".encode())
        self._ends[status] += 1
        if error_type:
            self._errors[error_type] += 1

    @property
    def images_sha256(self) -> str:
        """Hash over `{key} {status}` lines so far."""
        return self._hash.hexdigest()

    @property
    def errors(self) -> dict[str, int]:
        """Error type to number of pictures, most frequent first."""
        return dict(self._errors.most_common())

    def count(self, status: RowStatus) -> int:
        """Pictures that ended so."""
        return self._ends[status.value]

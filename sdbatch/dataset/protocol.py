"""What a finished shard reports, whatever its layout, and how its pictures are counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sdbatch.dataset.files import LooseFile
from sdbatch.dataset.row_groups import ShardFile
from sdbatch.records import RowStatus


def _nothing() -> Iterator[LooseFile]:
    return iter(())


@dataclass(frozen=True, slots=True)
class ShardFiles:
    """Local files of a finished shard, and its counts.

    Attributes:
        errors: None when nothing failed.
        filtered_file: Pictures that were filtered, with their reasons; None when none was.
        loose: Files that stand beside `data`, one in memory at a time; may be asked again.
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
    filtered_file: ShardFile | None = None
    loose: Callable[[], Iterator[LooseFile]] = _nothing


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

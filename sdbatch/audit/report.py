"""What a verification found: plain facts, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

SOUND, DAMAGED, UNFINISHED = 0, 3, 75
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not what a record says.

    Attributes:
        key: The object it was found in.
        level: At which level: 0 records, 1 sizes, 2 bytes, 3 rows and pictures.
        kind: One word: `plan`, `record`, `counts`, `success`, `rework`, `missing`, `size`,
            `hash`, `unreadable`, `order`, `rows`, `picture`.
        shard_id: The shard it damages; None when no single one is meant.
        file: Which of its files: `data`, `metadata`, `errors`, or `record`.
    """

    key: str
    level: int
    kind: str
    message: str
    shard_id: int | None = None
    file: str = ""


@dataclass
class Report:
    """What is true of a dataset.

    Attributes:
        orphans: Dataset files that no record names; damage nothing, gc removes them.
        remarks: What is wrong with objects on which the dataset does not depend: copies of
            records, and success records that were superseded.
        unfinished: What is still to be done, in words; empty when the run is finished.
        shards: Planned shards; `committed` of them have a record.
        sampled: Shards looked at from level 2 on.
        images: Planned pictures.
        files_checked: Files looked at from level 1 on.
        bytes_checked: Bytes read again at level 2.
        images_checked: Pictures decoded at level 3.
    """

    url: str
    run: str
    level: int
    shards: int = 0
    committed: int = 0
    sampled: int = 0
    images: int = 0
    success: int = 0
    failed: int = 0
    filtered: int = 0
    files_checked: int = 0
    bytes_checked: int = 0
    images_checked: int = 0
    unfinished: str = ""
    orphans: Sequence[str] = ()
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 sound and finished, 3 damaged, 75 sound so far but unfinished."""
        if self.problems:
            return DAMAGED
        return UNFINISHED if self.unfinished else SOUND

    def damaged_shards(self) -> dict[int, tuple[str, ...]]:
        """Shard to what of it is missing or wrong: `data`, `metadata`, `errors`, `record`.

        Where the record is, nothing is known of the files.
        """
        found: dict[int, set[str]] = {}
        for problem in self.problems:
            if problem.shard_id is not None and problem.file:
                found.setdefault(problem.shard_id, set()).add(problem.file)
        return {shard_id: tuple(sorted(found[shard_id])) for shard_id in sorted(found)}

    def to_json(self) -> dict[str, Any]:
        """All fields, as `verify --json` prints them."""
        return {**asdict(self), "orphans": list(self.orphans), "exit_code": self.exit_code}

    def describe(self) -> str:
        """A few lines for people, the first problems named."""
        lines = [self._verdict()]
        lines += [f"  {problem.key}: {problem.message}" for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"  ... and {len(self.problems) - SHOWN:,} more")
        if self.orphans:
            lines.append(
                f"{len(self.orphans):,} files that no record names "
                f"(sdbatch gc {self.url} removes them once the run is finished)"
            )
        lines += [f"note: {remark.key}: {remark.message}" for remark in self.remarks[:SHOWN]]
        return "\n".join(lines)

    def _verdict(self) -> str:
        if self.problems:
            verdict = f"damaged, {len(self.problems):,} problems"
        else:
            verdict = f"unfinished, {self.unfinished}" if self.unfinished else "sound"
        looked = f"{self.committed:,} of {self.shards:,} shards"
        if self.level >= 1:
            looked += f", {self.files_checked:,} files"
        if self.level >= 2:
            looked += f", {self.bytes_checked / 1e6:,.1f} MB read"
        if self.level >= 3:
            looked += f", {self.images_checked:,} pictures decoded"
        if self.level >= 2 and self.sampled < self.committed:
            looked += f", bytes of {self.sampled:,} shards only"
        return f"{self.url}: {verdict} (level {self.level}: {looked})"

"""What an export came to, in numbers that add up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """Pictures of the dataset, by what became of them, and what stands at DEST.

    `read` is the sum of `exported`, `left_out`, `older`, `failed` and `filtered`.

    Attributes:
        dest: Where the export lies.
        read: Pictures of all committed shards, drawn or not.
        exported: Stand at DEST now.
        left_out: By `--where`.
        older: By `--latest`: rows that stand in a newer run too.
        new: More at DEST than before this call; negative when rows were taken back.
        written: Written by this call, those of merged and changed files among them.
        files: Output files at DEST; lists of pictures where each picture is a file.
        splits: Split to its pictures.
        unfinished: Runs of the dataset that are not finished: a later call adds their rest.
    """

    dest: str
    format: str
    read: int
    exported: int
    left_out: int
    older: int
    failed: int
    filtered: int
    new: int
    written: int
    files: int
    splits: dict[str, int]
    unfinished: tuple[str, ...]
    seconds: float
    exit_code: int = 0

    def describe(self) -> str:
        """The sum as one line, and a second one for splits."""
        parts = [f"exported {self.exported:,}"]
        parts += [
            f"{word} {count:,}"
            for word, count in (
                ("left out by --where", self.left_out),
                ("older than the newest run", self.older),
                ("failed", self.failed),
                ("filtered", self.filtered),
            )
            if count
        ]
        lines = [f"read {self.read:,} = {' + '.join(parts)}"]
        if len(self.splits) > 1:
            shares = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
            lines.append(f"splits: {shares}")
        lines.append(
            f"{self.new:+,} pictures at {self.dest} in {self.files:,} files, {self.seconds:.1f} s"
        )
        if self.unfinished:
            lines.append(
                f"not finished: {', '.join(self.unfinished)}; the same command adds the rest later"
            )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)

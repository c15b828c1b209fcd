"""What a replay found: plain facts, and how they are told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

EQUAL, DIFFERENT = 0, 4


@dataclass(frozen=True, slots=True)
class FactChange:
    """A fact beside the pixels that is not what it was."""

    name: str
    stored: str
    now: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """One picture, drawn again.

    Attributes:
        stored: How it ended in the dataset, `success` or `failed`; `now` likewise.
        equal: It ended the same way: equal pixels, or the same error type.
        psnr_db: Of the new pixels against the stored ones; None without two pictures of
            one size, infinite where they are equal.
        largest: Largest difference of one value, of 255.
        share: Share of values that differ.
        stored_error: Type and message in the dataset; empty for a picture.
        error: The same, of now.
        changes: Facts that differ, whether the pixels do or not.
        files: Pictures that were written.
    """

    key: str
    stored: str
    now: str
    equal: bool
    psnr_db: float | None = None
    largest: int | None = None
    share: float | None = None
    stored_error: str = ""
    error: str = ""
    changes: tuple[FactChange, ...] = ()
    files: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields for JSON, which knows no infinity: equal pictures have no PSNR there."""
        psnr = self.psnr_db if self.psnr_db is None or math.isfinite(self.psnr_db) else None
        return {**asdict(self), "psnr_db": psnr}

    def lines(self) -> Iterator[str]:
        """One line of verdict, one for each fact that changed."""
        yield f"{self.key}  {self._verdict()}"
        for change in self.changes:
            yield f"    {change.name}: stored {change.stored}"
            yield f"    {' ' * len(change.name)}  now    {change.now}"
        for file in self.files:
            yield f"    see {file}"

    def _verdict(self) -> str:
        if self.stored != self.now:
            if self.error:
                return f"differs: was drawn, fails now with {self.error}"
            return f"differs: failed with {self.stored_error}, is drawn now"
        if self.error:
            again = "equal: fails again" if self.equal else "differs: fails otherwise"
            was = "" if self.equal else f", stored {self.stored_error}"
            return f"{again} with {self.error}{was}"
        if self.equal:
            return "equal"
        if self.psnr_db is None or self.share is None:
            return "differs in size"
        return (
            f"differs: PSNR {self.psnr_db:.1f} dB, largest difference {self.largest} of 255, "
            f"{100 * self.share:.3g} % of values"
        )


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What came of drawing some pictures of a dataset again."""

    url: str
    pictures: tuple[Replayed, ...]

    @property
    def exit_code(self) -> int:
        """0 when every picture is equal, 4 when any differs."""
        return EQUAL if all(picture.equal for picture in self.pictures) else DIFFERENT

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `replay --json` prints them."""
        return {
            "url": self.url,
            "exit_code": self.exit_code,
            "pictures": [picture.to_dict() for picture in self.pictures],
        }

    def describe(self) -> str:
        """A line for each picture, what changed below it, and a count."""
        lines = [line for picture in self.pictures for line in picture.lines()]
        equal = sum(picture.equal for picture in self.pictures)
        count = f"{len(self.pictures):,} drawn again: {equal:,} equal"
        different = len(self.pictures) - equal
        return "\n".join([*lines, f"{count}, {different:,} differ" if different else count])

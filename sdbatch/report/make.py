"""`report.html`: a whole dataset on one page that needs no network and no server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sdbatch.audit.across import chosen_runs
from sdbatch.errors import InputError, StorageError
from sdbatch.report.gather import Facts, gather
from sdbatch.report.page import write_page
from sdbatch.storage.store import Store, open_store

MAX_PICTURES, MAX_MB = 800, 24.0
MOST_PICTURES = 20_000
"""More than a browser shows without trouble."""
LEAST_MB = 0.5


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """A report that was written.

    Attributes:
        file: Where it is.
        shown: Pictures in its gallery, of `pictures`.
        unread: Files that could not be read, and are missing in it.
    """

    file: str
    shown: int
    pictures: int
    size_bytes: int
    unread: int

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `report --json` prints them."""
        return asdict(self)

    def describe(self) -> str:
        """One line for people."""
        shown = f"{self.shown:,} of {self.pictures:,} pictures"
        line = f"{self.file}: {shown}, {self.size_bytes / 1e6:.1f} MB"
        return f"{line}; {self.unread:,} files could not be read" if self.unread else line


def report(
    dataset: str | Path,
    *,
    out: str | Path = "report.html",
    max_pictures: int = MAX_PICTURES,
    max_mb: float = MAX_MB,
    run: str | None = None,
) -> ReportSummary:
    """Write one page about a dataset, finished or not: pictures, numbers, failures, times.

    Args:
        dataset: Folder or URL of the dataset.
        out: Local file for the page.
        max_pictures: Most pictures in its gallery; of more, a sample spread evenly.
        max_mb: Largest page, in millions of bytes; it shows fewer pictures to stay below.
        run: Only of this run; None takes all of them.

    Raises:
        InputError: There is no run, or a limit means nothing.
        StorageError: The dataset cannot be read, or the page not be written.
    """
    if not 0 <= max_pictures <= MOST_PICTURES:
        raise InputError(f"--max-pictures {max_pictures}: a number from 0 to {MOST_PICTURES:,}")
    if not LEAST_MB <= max_mb < float("inf"):
        raise InputError(f"--max-mb {max_mb:g}: at least {LEAST_MB:g}")
    store = open_store(dataset)
    facts, page = page_of(store, chosen_runs(store, run), max_pictures, int(max_mb * 1e6))
    path = Path(out)
    _write(path, page)
    return ReportSummary(str(path), len(facts.cards), facts.committed, len(page), len(facts.unread))


def page_of(
    store: Store, runs: Sequence[str], max_pictures: int, max_bytes: int
) -> tuple[Facts, bytes]:
    """A page of at most so many bytes, and what it says."""
    facts = gather(store, runs, max_pictures)
    while True:
        page = write_page(facts).encode("utf-8")
        if len(page) <= max_bytes or not facts.cards:
            return facts, page
        kept = min(len(facts.cards) * max_bytes // len(page), len(facts.cards) - 1)
        facts = replace(facts, cards=tuple(_thinned(facts, kept)))


def _thinned(facts: Facts, kept: int) -> list[Any]:
    """So many of the cards, spread evenly again."""
    return [facts.cards[number * len(facts.cards) // kept] for number in range(kept)]


def _write(path: Path, page: bytes) -> None:
    """Write a local file whole: a reader never sees half of it."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(page)
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: {reason}: name a place that can be written") from error

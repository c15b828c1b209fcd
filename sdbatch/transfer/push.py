"""`sdbatch push`: a dataset to the Hugging Face Hub, as few large Parquet files.

First the dataset is exported into a spool folder on this machine, where small shards become
files of about 500 MB. Then what the Hub lacks is committed, a few files at a time: data before the
card that names it. A push that was killed looks at what stands on the Hub, by name, size and
hash, and goes on; files that later rows made superfluous are deleted in the last commit.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdbatch.errors import InputError
from sdbatch.remote import is_url
from sdbatch.storage.store import Store, open_store
from sdbatch.transfer.ending import CARD_KEY
from sdbatch.transfer.export import Export
from sdbatch.transfer.hub import Address, Hub, Remote, is_same, of_bytes, of_file
from sdbatch.transfer.hub_card import merged
from sdbatch.transfer.ledger import Ledger
from sdbatch.transfer.summary import ExportSummary
from sdbatch.transfer.tidying import OURS, live_files

SHARD_MB = 500
COMMIT_FILES = 50
"""The Hub advises below 100 in one commit."""

COMMIT_BYTES = 5_000_000_000
"""A commit that fails is sent again; its large files need not be."""


@dataclass(frozen=True, slots=True)
class PushSummary:
    """What a push came to.

    Attributes:
        url: The repository.
        commits: Of this call.
        uploaded: Files that this call added or replaced.
        standing: Files that were there already.
        deleted: Files of earlier pushes that hold nothing any more.
        spool: Local folder with the files that were pushed; it may be deleted at any time.
    """

    url: str
    exported: ExportSummary
    commits: int
    uploaded: int
    uploaded_bytes: int
    standing: int
    deleted: int
    spool: str
    seconds: float
    exit_code: int = 0

    def describe(self) -> str:
        """A few lines."""
        sent = f"{self.uploaded:,} files ({self.uploaded_bytes / 1e6:,.1f} MB)"
        lines = [
            self.exported.describe().splitlines()[0],
            f"{self.url}: {sent} in {self.commits} commits, {self.standing:,} stood there, "
            f"{self.deleted:,} deleted, {self.seconds:.1f} s",
            f"spool: {self.spool} (may be deleted; the next push makes it anew)",
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Push:
    """One push.

    Attributes:
        terms: As those of an export.
        spool: Local folder; None takes one in the cache of this user.
        public: Make a repository that everybody sees, where none stands yet.
    """

    out: Store
    hub: Hub
    terms: Mapping[str, Any]
    note: Callable[[str], None]
    spool: Path | None = None
    shard_mb: int | None = None
    public: bool = False

    def run(self) -> PushSummary:
        """Bring the repository up to date.

        Raises:
            InputError: The terms cannot be met, or the Hub refuses what is asked.
            StorageError: The Hub, a store or the local disk failed; the same command goes on.
        """
        started = time.monotonic()
        folder = self.spool or own_spool(self.out.url, self.hub.address)
        store = open_store(folder)
        exported = Export(
            self.out, store, {**self.terms, "format": "parquet"},
            shard_mb=self.shard_mb or SHARD_MB, note=self.note,
            title=self.hub.address.repo.rpartition("/")[2],
        ).run()  # fmt: skip
        self.hub.make(private=not self.public)
        there = self.hub.files()
        wanted = dict(self._files(store))
        missing = [path for path, of in wanted.items() if not is_same(of, there.get(path))]
        old = [path for path in there if OURS.fullmatch(path) and path not in wanted]
        commits, size = 0, 0
        for batch in batches(missing, {path: wanted[path].size_bytes for path in missing}):
            size += sum(wanted[path].size_bytes for path in batch)
            files: dict[str, Path | bytes] = {path: Path(store.join(path)) for path in batch}
            commits += 1
            self._commit(
                files, (), {path: wanted[path] for path in batch}, f"Add {len(batch)} files"
            )
            self.note(f"commit {commits}: {len(batch)} files")
        commits += self._end(store, there, old)
        return PushSummary(
            str(self.hub.address), exported, commits, len(missing), size,
            len(wanted) - len(missing), len(old), str(folder),
            round(time.monotonic() - started, 3),
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------

    def _files(self, store: Store) -> Iterator[tuple[str, Remote]]:
        """Files of the export and what the Hub will say of them."""
        ledger = Ledger(store)
        for file in live_files(ledger.files(), ledger.retired()):
            for one in (file.data, file.rows):
                if one is not None:
                    yield one.key, of_file(Path(store.join(one.key)), one.sha256)

    def _end(self, store: Store, there: Mapping[str, Remote], old: Sequence[str]) -> int:
        """The card, and what it names no more; returns how many commits that took."""
        theirs = self.hub.read(CARD_KEY) if CARD_KEY in there else None
        card = merged(store.get(CARD_KEY).decode(), theirs).encode()
        changed = not is_same(of_bytes(card), there.get(CARD_KEY))
        commits = 0
        for number, first in enumerate(range(0, max(len(old), int(changed)), COMMIT_FILES)):
            gone = old[first : first + COMMIT_FILES]
            files: dict[str, Path | bytes] = {CARD_KEY: card} if changed and not number else {}
            due = {path: of_bytes(card) for path in files}
            self._commit(files, gone, due, "Update the card")
            commits += 1
        return commits

    def _commit(
        self,
        files: Mapping[str, Path | bytes],
        gone: Sequence[str],
        due: Mapping[str, Remote],
        message: str,
    ) -> None:
        def is_done() -> bool:
            now = self.hub.files()
            return all(is_same(of, now.get(path)) for path, of in due.items()) and not (
                set(gone) & set(now)
            )

        self.hub.commit(files, gone, f"{message} (sdbatch)", is_done)


def own_spool(out: str, address: Address) -> Path:
    """The spool folder of a dataset and a repository, in the cache of this user."""
    name = hashlib.sha256(f"{out}\n{address}".encode()).hexdigest()[:16]
    return Path.home() / ".cache" / "sdbatch" / "push" / name


def batches(paths: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Paths for one commit after the other: few, and not too large together."""
    batch: list[str] = []
    held = 0
    for path in paths:
        if batch and (len(batch) >= COMMIT_FILES or held + sizes[path] > COMMIT_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(path)
        held += sizes[path]
    if batch:
        yield batch


def demand_local(spool: str | Path | None) -> Path | None:
    """The spool folder as a path.

    Raises:
        InputError: It is a URL: files are uploaded from a disk.
    """
    if spool is not None and is_url(str(spool)):
        raise InputError(f"--spool {spool}: name a folder of this machine")
    return None if spool is None else Path(spool)

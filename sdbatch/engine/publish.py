"""What a person looks at: the first pictures during a run, card and preview at its end.

The only place of the driver that touches pictures, and never more than sixteen of them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sdbatch.dataset.card import CardFacts, write_card
from sdbatch.dataset.columns import installed_version
from sdbatch.dataset.sheet import contact_sheet, read_first_pictures
from sdbatch.engine.job_folder import StoredJob
from sdbatch.plan.fingerprint import NOT_IN_PLAN
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.store import Store

PICTURES = 16
RETRY_EVERY_S = 5.0
JPEG_QUALITY = 90
CARD_KEY, PREVIEW_KEY = "README.md", "preview.jpg"
NOT_ON_CARD = frozenset({"manifest.identity", "shards.digest", "model.revision", "columns"})


@dataclass
class Preview:
    """The sheet that grows during a run until sixteen pictures are committed."""

    store: Store
    run: str
    clock: Callable[[], float] = time.monotonic
    _shards: set[int] = field(default_factory=set)
    _shown: int = 0
    _tried_at: float = float("-inf")

    def add(self, shard_id: int) -> str | None:
        """Take a committed shard into account; the sheet's URL when it was drawn anew."""
        self._shards.add(shard_id)
        if self._shown >= PICTURES or self.clock() - self._tried_at < RETRY_EVERY_S:
            return None
        self._tried_at = self.clock()
        folder = RunFolder(self.store, self.run)
        records = [folder.record(shard_id) for shard_id in sorted(self._shards)[:PICTURES]]
        count = draw_sheet(
            self.store,
            [record.result.data for record in records if record],
            layout.preview_key(self.run),
        )
        grown, self._shown = count > self._shown, max(count, self._shown)
        return self.store.join(layout.preview_key(self.run)) if grown else None


def draw_sheet(store: Store, files: Sequence[DataFile], key: str) -> int:
    """Store a labelled sheet of the first pictures of some data files.

    Returns:
        Pictures on it; with none, nothing is stored.
    """
    with ExitStack() as opened:
        readers = [opened.enter_context(store.open(file.key)) for file in files if file.num_rows]
        pictures = read_first_pictures(readers, PICTURES)
    if pictures:
        target = io.BytesIO()
        contact_sheet(pictures).save(target, "JPEG", quality=JPEG_QUALITY)
        store.put(key, target.getvalue())
    return len(pictures)


def publish(store: Store, run: str, job: StoredJob, collected: bool) -> str:
    """Write card and preview of a finished run; returns the preview's URL, or nothing.

    Args:
        collected: Files that no record names are gone, so a pattern names the dataset.
            Otherwise the card lists the files one by one.
    """
    records = list(RunFolder(store, run).records())
    drawn = draw_sheet(store, _first_files(records), PREVIEW_KEY)
    store.put(CARD_KEY, write_card(_card_facts(job, records, collected, drawn)).encode())
    return store.join(PREVIEW_KEY) if drawn else ""


def _first_files(records: Sequence[CommitRecord]) -> list[DataFile]:
    found: list[DataFile] = []
    pictures = 0
    for record in records:
        if pictures >= PICTURES:
            break
        found.append(record.result.data)
        pictures += record.result.data.num_rows
    return found


def _card_facts(
    job: StoredJob, records: Sequence[CommitRecord], collected: bool, drawn: int
) -> CardFacts:
    results = [record.result for record in records]
    counts: dict[str, int] = {}
    for result in results:
        for error_type, number in result.errors.items():
            counts[error_type] = counts.get(error_type, 0) + number
    failed = sum(result.failed for result in results)

    def files(kind: str) -> tuple[str, ...]:
        if collected:
            return (f"{layout.data_prefix(kind, job.spec.run)}*.parquet",)
        return tuple(_named(records, kind))

    return CardFacts(
        title=job.spec.output.rstrip("/").rsplit("/", 1)[-1] or "dataset",
        model=job.spec.render.model,
        model_revision=job.spec.render.model_revision,
        pipeline_class=job.body["pipeline_class"],
        dtype=job.spec.render.dtype,
        manifest=job.spec.manifest.name,
        plan_id=job.spec.plan_id,
        sdbatch_version=installed_version(),
        created=f"{datetime.now(UTC):%Y-%m-%d}",
        images=job.images,
        success=sum(result.success for result in results),
        failed=failed,
        filtered=sum(result.filtered for result in results),
        size_bytes=sum(result.data.size_bytes for result in results),
        metadata_bytes=sum(result.metadata.size_bytes for result in results),
        errors_bytes=sum(r.errors_file.size_bytes for r in results if r.errors_file),
        settings={k: v for k, v in job.resolved.items() if k not in NOT_ON_CARD | NOT_IN_PLAN},
        error_counts=counts,
        data_files=files("data"),
        metadata_files=files("metadata"),
        errors_files=files("errors") if failed else (),
        preview=PREVIEW_KEY if drawn else "",
    )


def _named(records: Sequence[CommitRecord], kind: str) -> Iterator[str]:
    for record in records:
        for of, file in record.files:
            if of == kind:
                yield file.key

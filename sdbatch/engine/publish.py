"""What a person looks at: the first pictures during a run, card and preview at its end.

The only place of the driver that touches pictures, and never more than sixteen of them.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.card import CardFacts, write_card
from sdbatch.dataset.columns import installed_version
from sdbatch.dataset.images import decode
from sdbatch.dataset.layouts import PARQUET, SUFFIXES, WEBDATASET
from sdbatch.dataset.schema import CAPTION, role_of, schema_from_bytes
from sdbatch.dataset.sheet import Labelled, contact_sheet
from sdbatch.dataset.webdataset import sample_features
from sdbatch.engine.card_runs import CARD_KEY, stamp, with_other_runs
from sdbatch.engine.job_folder import StoredJob
from sdbatch.engine.picture_table import TABLE_KEY, TableFacts, picture_table
from sdbatch.engine.plan_text import OF_SOME
from sdbatch.engine.shard_pictures import pictures_of, wanted
from sdbatch.errors import DamagedError
from sdbatch.plan.fingerprint import NOT_IN_PLAN
from sdbatch.results import ShardResult
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.runs import finished_runs
from sdbatch.storage.store import Store

PICTURES = 16
RETRY_EVERY_S = 5.0
JPEG_QUALITY = 90
PREVIEW_KEY = "preview.jpg"
CARD_ATTEMPTS = 8
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
            [record.result for record in records if record],
            layout.preview_key(self.run),
        )
        grown, self._shown = count > self._shown, max(count, self._shown)
        return self.store.join(layout.preview_key(self.run)) if grown else None


def draw_sheet(store: Store, shards: Iterable[ShardResult], key: str) -> int:
    """Store a labelled sheet of the first pictures of some shards.

    Returns:
        Pictures on it; with none, nothing is stored.
    """
    pictures = list(islice(_labelled(store, shards), PICTURES))
    if pictures:
        target = io.BytesIO()
        contact_sheet(pictures).save(target, "JPEG", quality=JPEG_QUALITY)
        store.put(key, target.getvalue())
    return len(pictures)


def _labelled(store: Store, shards: Iterable[ShardResult]) -> Iterator[Labelled]:
    """Pictures with their prompts, shard by shard, of each no more than a sheet holds."""
    for shard in shards:
        if shard.metadata.num_rows:
            with (
                store.open(shard.metadata.key) as source,
                pq.ParquetFile(source, pre_buffer=False) as file,
            ):
                batches = file.iter_batches(PICTURES, columns=["key", "format", "prompt"])
                rows = next(batches).to_pylist()
            found = pictures_of(store, shard.data.key, list(wanted(rows)))
            for row, data in zip(rows, found, strict=True):
                if data is None:
                    raise DamagedError(shard.data.key, f"picture {row['key']} is not there")
                yield decode(data, f"picture {row['key']}"), row["prompt"]


def publish(
    store: Store, run: str, job: StoredJob, collected: bool, table: TableFacts | None = None
) -> str:
    """Write card and preview of a finished run; returns the preview's URL, or nothing.

    Args:
        collected: Files that no record names are gone, so a pattern names the dataset.
            Otherwise the card lists the files one by one.
        table: What `picture_table` wrote.
    """
    records = list(RunFolder(store, run).records())
    drawn = draw_sheet(store, (record.result for record in records), PREVIEW_KEY)
    facts = _card_facts(job, records, collected, drawn)
    schema = schema_from_bytes(store.get(job.spec.schema_key))
    for _ in range(CARD_ATTEMPTS):
        stands = finished_runs(store)
        card = write_card(laid_out(with_other_runs(store, run, facts), job, schema, table))
        store.put(CARD_KEY, card.encode() + stamp(stands))
        if finished_runs(store) == stands:  # else another run ended meanwhile
            break
        table = picture_table(store, job)
    return store.join(PREVIEW_KEY) if drawn else ""


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
            ending = SUFFIXES[job.spec.output_spec.format] if kind == "data" else "parquet"
            return (f"{layout.data_prefix(kind, job.spec.run)}*.{ending}",)
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
        filtered_bytes=sum(r.filtered_file.size_bytes for r in results if r.filtered_file),
        settings={key: value for key, value in job.resolved.items() if _on_card(key, value)},
        error_counts=counts,
        data_files=files("data"),
        metadata_files=files("metadata"),
        errors_files=files("errors") if failed else (),
        filtered_files=files("filtered") if any(r.filtered_file for r in results) else (),
        preview=PREVIEW_KEY if drawn else "",
        license=job.resolved.get("license") or "other",
    )


def _on_card(key: str, value: Any) -> bool:
    """Whether a setting says something of the pictures, and of a model like this one."""
    if key in OF_SOME or key.startswith("vae"):
        return value not in (None, "")
    return key not in NOT_ON_CARD | NOT_IN_PLAN


def laid_out(
    facts: CardFacts, job: StoredJob, schema: pa.Schema, table: TableFacts | None
) -> CardFacts:
    """The facts with what the layout makes of them.

    A folder has one kind of loader for all of its configurations, so tars and loose pictures
    leave no room for those of Parquet files.
    """
    output, ending = job.spec.output_spec, job.spec.image.format
    captions = [field.name for field in schema if role_of(field) == CAPTION]
    facts = replace(
        facts,
        layout=output.format,
        captions=output.captions,
        picture=ending,
        caption_column=captions[0] if captions and output.format != WEBDATASET else "",
    )
    if output.format == PARQUET:
        return facts
    alone = replace(facts, metadata_files=(), errors_files=(), filtered_files=())
    if table is not None:
        files = (f"{layout.PICTURES}/**/*.{ending}", TABLE_KEY)
        return replace(alone, data_files=files, size_bytes=table.size_bytes)
    features = sample_features(schema, ending, bool(output.captions))
    return replace(alone, features=tuple(features["features"]))


def _named(records: Sequence[CommitRecord], kind: str) -> Iterator[str]:
    for record in records:
        for of, file in record.files:
            if of == kind:
                yield file.key

"""The shards that an export reads: all runs of a dataset, in the order they were begun.

A shard carries a signature of everything that decides what it gives: its standing revision,
the scores that are joined to it, and with `--latest` the runs after it. A shard whose
signature is that of the last finished call need not be read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from sdbatch.audit.pictures import shard_rows
from sdbatch.dataset.schema import IMAGE, features_of, schema_from_bytes
from sdbatch.errors import DamagedError, InputError, ObjectNotFoundError
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.record import read_object
from sdbatch.storage.runs import appended_runs
from sdbatch.storage.store import Store

PER_RUN = layout.MAX_SHARDS


class Scores(Protocol):
    """Columns that were made after the run, joined by key."""

    fields: Sequence[pa.Field]

    def signature(self, run: str, shard_id: int) -> str:
        """Changes when the scores of a shard do."""

    def join(self, rows: pa.RecordBatch, run: str, shard_id: int) -> pa.RecordBatch:
        """Rows with the columns of `fields`; null where a row has no score."""


@dataclass(frozen=True, slots=True)
class Source:
    """A committed shard.

    Attributes:
        place: Rises along runs and shards; the same in every call.
    """

    place: int
    run: str
    record: CommitRecord
    signature: str

    @property
    def shard(self) -> tuple[str, int]:
        """(run, shard)."""
        return (self.run, self.record.result.shard_id)


class Sources:
    """Every committed shard of a dataset.

    Attributes:
        runs: Names, oldest first.
        schema: Columns of `data/` and joined scores, picture included.
        scored: Columns that are joined.
        columns_id: Of the schema; files with other columns cannot stand beside each other.
        plan_id: Of the first run: which dataset this is.

    Raises:
        InputError: There is no run, or runs or scores give one column two types.
    """

    def __init__(self, store: Store, scores: Scores, latest: bool = False) -> None:
        self.store, self._scores = store, scores
        jobs = {}
        for run in (layout.MAIN, *_by_age(store)):
            job = RunFolder(store, run).read_job()
            if job is not None:
                jobs[run] = job
        if layout.MAIN not in jobs:
            raise InputError(
                f"{store.url}: holds no run '{layout.MAIN}', name the output of sdbatch render"
            )
        self.runs = tuple(jobs)
        self.plan_id = str(jobs[layout.MAIN]["plan_id"])
        self.jobs: Mapping[str, Mapping[str, object]] = jobs
        schemas = {
            run: schema_from_bytes(store.get(str(job["schema_key"]))) for run, job in jobs.items()
        }
        self._held = {run: frozenset(schema.names) for run, schema in schemas.items()}
        self.schema = _union(list(schemas.values()), scores.fields)
        self.scored = tuple(field.name for field in scores.fields)
        self.columns_id = _columns_id(self.schema)
        self._newer = self._signatures_of_newer() if latest else dict.fromkeys(self.runs, "")

    def __iter__(self) -> Iterator[Source]:
        """Standing shards, in the order of runs and shards.

        Raises:
            DamagedError: A record cannot be read.
        """
        for rank, run in enumerate(self.runs):
            for record in RunFolder(self.store, run).records():
                yield self._source(rank, run, record)

    def rank(self, run: str) -> int:
        """Which run of the dataset this is, from 0."""
        return self.runs.index(run)

    def rows(
        self, source: Source, columns: Sequence[str] | None = None, pictures: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a shard, scores joined.

        Args:
            columns: Of the schema, `key` among them; None for all.
            pictures: Bring `image` along.
        """
        scored = set(self.scored)
        wanted = [name for name in columns or self.schema.names if name != IMAGE.name]
        held = [name for name in wanted if name in self._held[source.run] and name not in scored]
        for batch in shard_rows(self.store, source.record, held, pictures):
            joined = self._scores.join(batch, *source.shard) if scored & set(wanted) else batch
            yield self._shaped(joined, self._order(wanted, pictures))

    def _order(self, wanted: Sequence[str], pictures: bool) -> list[str]:
        """Columns as asked for, or in the order of the schema when a picture is among them."""
        if not pictures:
            return list(wanted)
        held = {*wanted, IMAGE.name}
        return [name for name in self.schema.names if name in held]

    def _shaped(self, batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
        fields = [self.schema.field(name) for name in names]
        arrays = [
            batch.column(field.name)
            if field.name in batch.schema.names
            else pa.nulls(batch.num_rows, field.type)
            for field in fields
        ]
        arrays = [
            array if array.type == field.type else array.cast(field.type)
            for array, field in zip(arrays, fields, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _source(self, rank: int, run: str, record: CommitRecord) -> Source:
        shard_id = record.result.shard_id
        parts = (
            f"{record.revision}-{record.result.attempt}",
            self._scores.signature(run, shard_id),
            self._newer[run],
        )
        signature = "+".join(part for part in parts if part)
        return Source(rank * PER_RUN + shard_id, run, record, signature)

    def _signatures_of_newer(self) -> dict[str, str]:
        """Run to a hash over the standing records of all runs after it."""
        digest = hashlib.sha256()
        found = {}
        for run in reversed(self.runs):
            found[run] = digest.hexdigest()[:16]
            for key in sorted(RunFolder(self.store, run).standing().values()):
                digest.update(f"{key}\n".encode())
        return found


def _columns_id(schema: pa.Schema) -> str:
    """Sixteen hex digits over names and types, in their order."""
    columns = "\n".join(f"{field.name} {field.type}" for field in schema)
    return hashlib.sha256(columns.encode()).hexdigest()[:16]


def _by_age(store: Store) -> list[str]:
    """Appended runs, oldest first."""

    def begun(run: str) -> tuple[str, str]:
        try:
            return str(read_object(store, layout.run_mark_key(run)).get("created_at", "")), run
        except (DamagedError, ObjectNotFoundError):
            return "", run

    return sorted(appended_runs(store), key=begun)


def _union(schemas: Sequence[pa.Schema], scores: Sequence[pa.Field]) -> pa.Schema:
    """All columns, in the order of the first run; later ones after them.

    Raises:
        InputError: A column has two types.
    """
    fields: dict[str, pa.Field] = {}
    for field in (field for schema in (*schemas, pa.schema(scores)) for field in schema):
        known = fields.setdefault(field.name, field)
        if known.type != field.type:
            raise InputError(
                f"column '{field.name}': {known.type} in one run or score, {field.type} in "
                "another: export them apart"
            )
    plain = pa.schema(fields.values())
    features = {"info": {"features": features_of(plain)}}
    return plain.with_metadata({"huggingface": json.dumps(features)})

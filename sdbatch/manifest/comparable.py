"""Rows of a manifest as `differences.py` compares them: values in one spelling.

A scheduler under two names is one scheduler, and a JSON object with its keys in another
order is the same one: only what would be drawn otherwise is a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from sdbatch.errors import ManifestError
from sdbatch.manifest.content import content_digests, id_digests
from sdbatch.manifest.differences import Rows
from sdbatch.manifest.micro_conditioning import one_spelling
from sdbatch.manifest.reader import Manifest, Storage, iter_tables
from sdbatch.manifest.scheduler_names import choose_scheduler
from sdbatch.manifest.schema import CANONICAL, canonical_table

SCHEDULING = ("scheduler", "schedule_type", "scheduler_config")
BY_ID, BY_CONTENT = "id", "content"


def compared_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Columns whose values count: all but the id, and the sampler's two halves as one."""
    names = [name for name in schema.names if name not in ("id", "schedule_type")]
    if "scheduler_config" not in names and {"scheduler", "schedule_type"} & set(schema.names):
        names.append("scheduler_config")
    return tuple(names)


def manifest_rows(
    manifest: Manifest, columns: Sequence[str], by: str, storage: Storage = None
) -> Iterator[Rows]:
    """All rows of a manifest, in order.

    Args:
        manifest: The rows.
        columns: What is compared; those that the manifest lacks are null.
        by: `id` or `content`.
        storage: fsspec options of the manifest's file system.

    Raises:
        ManifestError: The manifest cannot be read, or holds a text that is no UTF-8.
        StorageError: The store cannot be reached.
    """
    first_row = 0
    for table in iter_tables(manifest.ref, manifest.schema.names, storage=storage):
        try:
            table.validate(full=True)
        except pa.ArrowInvalid as error:
            reason = "holds texts that are not UTF-8: 'sdbatch manifest check' names them"
            raise ManifestError(manifest.ref.name, -1, "", "", reason) from error
        digests = id_digests(table.column("id")) if by == BY_ID else content_digests(table)
        positions = np.arange(first_row, first_row + table.num_rows)
        yield Rows(digests, in_one_spelling(table, columns), positions)
        first_row += table.num_rows


def in_one_spelling(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """These columns of some rows; null where the table has none."""
    known = canonical_table(table)
    made: dict[str, pa.ChunkedArray | pa.Array] = {}
    if set(SCHEDULING) & set(known.column_names):
        schedulers, configs = _settings(known)
        made = {"scheduler": schedulers, "scheduler_config": configs}
    for name in columns:
        if name in made:
            continue
        if name == "micro_conditioning" and name in known.column_names:
            said = known.column(name).to_pylist()
            made[name] = pa.array([one_spelling(text or "") or None for text in said], pa.string())
        elif name in CANONICAL and name in known.column_names:
            made[name] = known.column(name)
        elif name in table.column_names:
            made[name] = table.column(name)
        else:
            made[name] = pa.nulls(table.num_rows)
    return pa.table({name: made[name] for name in columns})


def _settings(known: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Class names and options; null where a row leaves them open."""
    stated = [
        known.column(name).to_pylist() if name in known.column_names else [None] * known.num_rows
        for name in SCHEDULING
    ]
    chosen = [_chosen(*row) for row in zip(*stated, strict=True)]
    return (
        pa.array([scheduler for scheduler, _ in chosen], pa.string()),
        pa.array([config for _, config in chosen], pa.string()),
    )


@lru_cache(maxsize=65536)
def _chosen(
    scheduler: str | None, schedule_type: str | None, config: str | None
) -> tuple[str | None, str | None]:
    choice = choose_scheduler(scheduler or "", schedule_type or "", config or "")
    return (choice.scheduler if scheduler else None), choice.config or None

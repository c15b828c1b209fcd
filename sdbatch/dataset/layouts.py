"""The files of a shard in each layout: spool in, local files out, one pass, one row group.

Layouts differ in where the pictures go and in nothing else: `metadata/`, `errors/` and
`filtered/` are the same Parquet files in all of them. Rows stand in the order (row_index,
image_index) whatever the order they were drawn in. An empty shard has its files too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.files import IndexFile, LooseFile, loose_files
from sdbatch.dataset.protocol import ShardFiles, Tally
from sdbatch.dataset.row_groups import RowFile, RowGroupFile, ShardFile, UserColumns
from sdbatch.dataset.schema import (
    errors_schema,
    filtered_schema,
    metadata_schema,
    user_fields,
)
from sdbatch.dataset.spool import Spool
from sdbatch.dataset.webdataset import TarFile
from sdbatch.output_specs import OutputSpec
from sdbatch.records import RowStatus

FORMAT_VERSION = "1"
PARQUET, WEBDATASET, FILES = "parquet", "webdataset", "files"
SUFFIXES = {PARQUET: "parquet", WEBDATASET: "tar", FILES: "parquet"}
"""Layout to the ending of a shard's data file."""

PLAIN = OutputSpec()

Rows = Iterator[tuple[Mapping[str, Any], bytes | None]]


def write_shard(
    spool: Spool,
    user: pa.Table,
    folder: Path,
    plan_id: str,
    run: str,
    filtered: Mapping[str, str] = MappingProxyType({}),
    output: OutputSpec = PLAIN,
) -> ShardFiles:
    """Write the files of a shard; memory stays at one row group.

    Args:
        spool: Every picture of the shard; it also carries the frozen schema.
        user: The manifest's own columns, and `row_index` to find rows by.
        folder: Local folder, made if absent.
        plan_id: Goes into footers, for those who find a lone file.
        run: Likewise.
        filtered: Key to reason of pictures that were drawn and are not to be in `data/`.
        output: The layout.

    Raises:
        StorageError: The local disk is full.
    """
    with local_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    footer = {"version": FORMAT_VERSION, "run_id": run, "plan_id": plan_id}
    own = UserColumns(user, user_fields(spool.schema))
    tally = Tally()
    with ExitStack() as open_files:

        def start(name: str, schema: pa.Schema) -> RowGroupFile:
            file = RowGroupFile(folder / f"{name}.parquet", schema, own, footer)
            return open_files.enter_context(file)

        data = open_files.enter_context(_data_file(output, folder, spool.schema, own, footer))
        metadata = start("metadata", metadata_schema(spool.schema))
        others: dict[str, RowGroupFile] = {}
        for row, image in _ended(spool, filtered):
            tally.add(row["key"], row["status"], row.get("error_type") or "")
            if row["status"] == RowStatus.SUCCESS:
                data.add(row, image)
                metadata.add(row, None)
                continue
            kind = "filtered" if row["status"] == RowStatus.FILTERED else "errors"
            if kind not in others:
                others[kind] = start(kind, _SCHEMAS[kind](spool.schema))
            others[kind].add(row, image if kind == "filtered" else None)
        ends = {kind: file.finish() for kind, file in others.items()}
        loose = partial(_loose, spool, filtered, output)
        return _shard_files(data.finish(), metadata.finish(), ends, tally, loose)


_SCHEMAS = {"errors": errors_schema, "filtered": filtered_schema}


def _shard_files(
    data: ShardFile,
    metadata: ShardFile,
    ends: Mapping[str, ShardFile],
    tally: Tally,
    loose: Callable[[], Iterator[LooseFile]],
) -> ShardFiles:
    return ShardFiles(
        data=data,
        metadata=metadata,
        errors=ends.get("errors"),
        filtered_file=ends.get("filtered"),
        success=tally.count(RowStatus.SUCCESS),
        failed=tally.count(RowStatus.FAILED),
        filtered=tally.count(RowStatus.FILTERED),
        error_counts=tally.errors,
        images_sha256=tally.images_sha256,
        loose=loose,
    )


def _data_file(
    output: OutputSpec,
    folder: Path,
    schema: pa.Schema,
    own: UserColumns,
    footer: Mapping[str, str],
) -> RowFile:
    path = folder / f"data.{SUFFIXES[output.format]}"
    if output.format == WEBDATASET:
        return TarFile(path, schema, own, bool(output.captions))
    if output.format == FILES:
        return IndexFile(path, schema, own, bool(output.captions), footer)
    return RowGroupFile(path, schema, own, footer)


def _loose(spool: Spool, filtered: Mapping[str, str], output: OutputSpec) -> Iterator[LooseFile]:
    """Files that stand beside the data file, read from the spool once more."""
    if output.format != FILES:
        return
    rows = _ended(spool, filtered)
    drawn = ((row, image) for row, image in rows if row["status"] == RowStatus.SUCCESS and image)
    yield from loose_files(drawn, bool(output.captions))


def _ended(spool: Spool, filtered: Mapping[str, str]) -> Rows:
    """Rows as they end: what was drawn may be filtered."""
    for held in spool:
        row = held.columns
        reason = filtered.get(row["key"])
        if reason is not None and row["status"] == RowStatus.SUCCESS:
            row = {**row, "status": RowStatus.FILTERED.value, "filter_reason": reason}
        yield row, held.data

"""The Parquet layout: pictures and all columns in one file, opened by every reader.

A shard becomes `data.parquet`, `metadata.parquet` (the same rows without pictures) and,
if anything failed, `errors.parquet`. Rows stand in the order (row_index, image_index)
whatever the order they were drawn in. An empty shard has its files too, without rows.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.protocol import DatasetWriter, ShardFiles, Tally
from sdbatch.dataset.row_groups import RowGroupFile, ShardFile, UserColumns
from sdbatch.dataset.schema import errors_schema, metadata_schema, user_fields
from sdbatch.dataset.spool import Spool
from sdbatch.records import RowStatus

__all__ = ["ShardFile", "ShardFiles", "write_shard"]

FORMAT_VERSION = "1"


def write_shard(spool: Spool, user: pa.Table, folder: Path, plan_id: str, run: str) -> ShardFiles:
    """Write the Parquet files of a shard; memory stays at one row group.

    Args:
        spool: Every picture of the shard; it also carries the frozen schema.
        user: The manifest's own columns, and `row_index` to find rows by.
        folder: Local folder, made if absent.
        plan_id: Goes into footers, for those who find a lone file.
        run: Likewise.

    Raises:
        StorageError: The local disk is full.
    """
    with local_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    footer = {"version": FORMAT_VERSION, "run_id": run, "plan_id": plan_id}
    own = UserColumns(user, user_fields(spool.schema))
    tally = Tally()
    errors: RowGroupFile | None = None
    with ExitStack() as open_files:

        def start(name: str, schema: pa.Schema) -> RowGroupFile:
            file = RowGroupFile(folder / f"{name}.parquet", schema, own, footer)
            return open_files.enter_context(file)

        data = start("data", spool.schema)
        metadata = start("metadata", metadata_schema(spool.schema))
        for image in spool:
            row = image.columns
            tally.add(row["key"], row["status"], row.get("error_type") or "")
            if row["status"] == RowStatus.SUCCESS:
                data.add(row, image.data)
                metadata.add(row, None)
                continue
            errors = errors or start("errors", errors_schema(spool.schema))
            errors.add(row, None)
        return ShardFiles(
            data=data.finish(),
            metadata=metadata.finish(),
            errors=errors.finish() if errors else None,
            success=tally.count(RowStatus.SUCCESS),
            failed=tally.count(RowStatus.FAILED),
            filtered=tally.count(RowStatus.FILTERED),
            error_counts=tally.errors,
            images_sha256=tally.images_sha256,
        )


writer: DatasetWriter = write_shard
"""This layout, held to the protocol by the type checker."""

"""A new manifest on disk: streamed to Parquet, and there only when it is whole.

Equal rows give equal bytes. The file grows under another name beside its place and is moved
there at the end, so that whoever is interrupted leaves no half manifest behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.errors import InputError, StorageError

ROW_GROUP_ROWS = 65536


def demand_parquet(path: str | Path) -> Path:
    """The path of a manifest that is to be written.

    Raises:
        InputError: It does not end in `.parquet`, or is a folder.
    """
    target = Path(path)
    if "://" in str(path):
        raise InputError(f"{path}: write to a local path and copy the file from there")
    if target.suffix.lower() != ".parquet":
        raise InputError(f"{path}: must end in .parquet, the form manifests are written in")
    if target.is_dir():
        raise InputError(f"{path}: is a folder, name a file in it")
    return target


def write_manifest(path: str | Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Stream tables of one schema to a file, which is replaced if it exists; rows written.

    Raises:
        InputError: The path cannot be that of a manifest.
        StorageError: The disk is full, or the folder cannot be written to.
    """
    target = demand_parquet(path)
    rows = 0
    with _whole(target) as growing, pq.ParquetWriter(growing, schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        held = 0
        for table in tables:
            waiting.append(table)
            held += table.num_rows
            rows += table.num_rows
            if held >= ROW_GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting), held)
                waiting, held = [], 0
        if held:
            writer.write_table(pa.concat_tables(waiting), held)
    return rows


@contextmanager
def _whole(target: Path) -> Iterator[Path]:
    growing = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield growing
        growing.replace(target)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            growing.unlink(missing_ok=True)

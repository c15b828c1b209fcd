"""The rows of a manifest in random order, in bounded memory; a seed gives one order for ever.

Every row draws a 64-bit number; the order is that of the numbers. Rows go to temporary
files by the first bits of theirs, and one such file at a time is sorted and written. So the
order does not depend on how many files there are, nor on the memory of the machine.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.errors import StorageError
from sdbatch.manifest.reader import Manifest, Storage, iter_tables
from sdbatch.manifest.written import OutputFile

PART_BYTES = 32 << 20
"""Of a compressed manifest, in one temporary file: some hundred megabytes in memory."""
MAX_PARTS = 256
_KEY = "__sdbatch_key"


class RowKeys:
    """The random numbers of rows, in manifest order.

    Args:
        seed: Equal seeds give equal numbers on every machine.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def take(self, rows: int) -> NDArray[np.uint64]:
        """The numbers of the next rows, however they are cut."""
        return self._generator.integers(0, 2**64, size=rows, dtype=np.uint64)


def shuffle(
    manifest: Manifest,
    out: str | Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    storage: Storage = None,
) -> int:
    """Write the rows in random order.

    Args:
        manifest: The rows; all columns are kept.
        out: A Parquet file.
        seed: Chooses the order.
        overwrite: Whether `out` may be replaced.
        storage: fsspec options of the manifest's file system.

    Returns:
        Rows written.

    Raises:
        InputError: The manifest changed, or `out` cannot be written there.
        StorageError: The store cannot be reached, or a disk is full.
    """
    size = sum(file.size_bytes for file in manifest.ref.files)
    parts = min(max(-(-size // PART_BYTES), 1), MAX_PARTS)
    with OutputFile(out, manifest.schema, overwrite=overwrite) as file:
        with TemporaryDirectory(prefix="sdbatch-shuffle-") as folder:
            paths = _scatter(manifest, Path(folder), parts, seed, storage)
            for path in paths:
                file.add(_sorted(path))
                path.unlink()
        return file.num_rows


def _scatter(
    manifest: Manifest, folder: Path, parts: int, seed: int, storage: Storage
) -> list[Path]:
    """Rows with their numbers in files, each holding one range of numbers, in order."""
    schema = manifest.schema.append(pa.field(_KEY, pa.uint64()))
    paths = [folder / f"{part:03d}.arrow" for part in range(parts)]
    keys = RowKeys(seed)
    try:
        with ExitStack() as keep:
            writers = [keep.enter_context(pa.ipc.new_stream(str(path), schema)) for path in paths]
            for table in iter_tables(manifest.ref, manifest.schema.names, storage=storage):
                drawn = keys.take(table.num_rows)
                table = table.append_column(_KEY, pa.array(drawn)).cast(schema)
                part_of = (drawn >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)
                order = np.argsort(part_of, kind="stable")
                ends = np.cumsum(np.bincount(part_of.astype(np.int64), minlength=parts))
                for writer, rows in zip(writers, np.split(order, ends[:-1]), strict=True):
                    if len(rows):
                        writer.write_table(table.take(pa.array(rows)))
    except OSError as error:
        raise StorageError(f"{folder}: {error}, make room there or set TMPDIR") from error
    return paths


def _sorted(path: Path) -> pa.Table:
    with pa.ipc.open_stream(str(path)) as reader:
        table = reader.read_all()
    order = np.argsort(table.column(_KEY).to_numpy(), kind="stable")
    return table.drop_columns([_KEY]).take(pa.array(order))

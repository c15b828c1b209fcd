"""The rows of a shard that stands already, read back one at a time to be written once more.

A rework takes over most pictures of a shard as they are: the encoded bytes and every column
of ours; the manifest's own columns come from the manifest, as they did the first time. A
file whose hash no longer fits its record may still hold most pictures unharmed, and the
hashes in `metadata/` say which. Memory stays at one row group of one file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.images import decode, keeps_pixels, pixel_sha256
from sdbatch.dataset.schema import IMAGE, spool_schema
from sdbatch.dataset.webdataset import read_samples, sample_columns
from sdbatch.errors import DamagedError
from sdbatch.records import ImageId

Row = tuple[ImageId, dict[str, Any], bytes | None]
"""A picture's name, its columns as `columns.py` made them, and its bytes if it has any."""

_READ_ROWS = 64  # rows held at a time
_PICTURE = ("row_index", "image_index", f"{IMAGE.name}.bytes")


def standing_rows(path: Path) -> Iterator[Row]:
    """Rows of a local copy of a `data/`, `metadata/`, `errors/` or `filtered/` file, in its order.

    Raises:
        DamagedError: The file is none of these; what was read before the damage was yielded.
    """
    try:
        # Read ahead, Arrow would hold the whole file.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            held = set(file.schema_arrow.names)
            names = [name for name in spool_schema(file.schema_arrow).names if name in held]
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(_READ_ROWS, [group], names, use_threads=False):
                    yield from map(_row, _plain(batch).to_pylist())
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise DamagedError(path.name, f"cannot be read ({error})") from error


def sampled_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    """Rows of a local copy of a tar, as far as the JSON of its samples says them.

    Args:
        path: The copy.
        names: Columns that the spool holds.

    Raises:
        DamagedError: It is none; what was read before the damage was yielded.
    """
    with path.open("rb") as source:
        for sample in read_samples(source, path.name):
            try:
                columns = sample_columns(sample.text, names)
            except (KeyError, TypeError, ValueError) as error:
                raise DamagedError(path.name, f"cannot be read ({error})") from error
            yield (columns["row_index"], columns["image_index"]), columns, sample.data


def unharmed_rows(metadata: Path, data: Path) -> Iterator[Row]:
    """Rows of a damaged `data/` file whose pictures are those that `metadata/` describes.

    Args:
        metadata: Local copy of the shard's metadata, whole.
        data: Local copy of its data file, of which anything may be wrong.

    Raises:
        DamagedError: The metadata cannot be read.
    """
    pictures = _readable_pictures(data)
    name, picture = next(pictures, _END)
    for image_id, columns, _ in standing_rows(metadata):
        while name is not None and name < image_id:
            name, picture = next(pictures, _END)
        if name == image_id and hashlib.sha256(picture).hexdigest() == columns["sha256"]:
            yield image_id, columns, picture


def is_sound(row: Row) -> bool:
    """Whether a picture is the one that its own columns describe, to the pixel if it keeps them."""
    _, columns, data = row
    if data is None or hashlib.sha256(data).hexdigest() != columns["sha256"]:
        return False
    try:
        pixels = decode(data)
        return not keeps_pixels(data) or pixel_sha256(pixels) == columns["pixel_sha256"]
    except DamagedError:
        return False


_END: tuple[ImageId | None, bytes] = (None, b"")


def _readable_pictures(path: Path) -> Iterator[tuple[ImageId | None, bytes]]:
    """What can still be read of a damaged file, row group by row group."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                try:
                    rows = file.read_row_group(group, _PICTURE, use_threads=False).to_pylist()
                except (pa.ArrowException, OSError, ValueError):
                    continue
                for row in rows:
                    if None not in (row["row_index"], row["image_index"], row[IMAGE.name]):
                        picture = row[IMAGE.name]["bytes"] or b""
                        yield (row["row_index"], row["image_index"]), picture
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return  # not even its footer is left


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Moments as integers, which is how they go through the spool."""
    at = batch.schema.get_field_index("created_at")
    return batch.set_column(at, "created_at", batch.column(at).cast(pa.int64()))


def _row(columns: dict[str, Any]) -> Row:
    image = columns.pop(IMAGE.name, None)
    image_id = (columns["row_index"], columns["image_index"])
    return image_id, columns, image and image["bytes"]

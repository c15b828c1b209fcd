"""Level 3: opens a shard and asks whether its rows and pictures are those it promises.

Pictures are decoded a few at a time, on threads (Pillow works outside the interpreter
lock), so memory does not grow with the shard. The header's size is compared before a picture
is decoded: a file that lies about it must not fill the memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sdbatch.audit.pictures import shard_rows
from sdbatch.audit.report import Problem
from sdbatch.dataset.images import decode, keeps_pixels, picture_size, pixel_sha256
from sdbatch.dataset.layouts import PARQUET, WEBDATASET
from sdbatch.dataset.protocol import Tally
from sdbatch.dataset.webdataset import sample_name
from sdbatch.engine.shard_pictures import layout_of, picture_names
from sdbatch.errors import DamagedError, StorageError
from sdbatch.records import ImageId, RowStatus, Shard, image_key
from sdbatch.results import DataFile
from sdbatch.storage.commit import CommitRecord
from sdbatch.storage.store import Store

BATCH = 16
THREADS = 4
IDS = ("key", "row_index", "image_index", "shard_id")
PICTURED = ("data", "filtered")
PICTURE = ("image", "sha256", "pixel_sha256", "image_width", "image_height")


COLUMNS = {
    "data": PICTURE,
    "metadata": (),
    "errors": ("status", "error_type"),
    "filtered": ("status", *PICTURE),
}
"""What is read of a file, by its kind."""


class PictureCheck:
    """Checks shards one after the other.

    Attributes:
        images: Pictures decoded so far.
    """

    def __init__(self, store: Store, run: str) -> None:
        self.images = 0
        self._store, self._run = store, run
        self._window = (0, 0)
        self._rows_of_window: set[int] = set()

    def check(self, record: CommitRecord, shard: Shard) -> Iterator[Problem]:
        """What is wrong with one committed shard."""
        ends: list[tuple[ImageId, str, str]] = []
        keys: dict[str, list[str]] = {}
        for kind, file in record.files:
            before = len(ends)
            try:
                for rows in self._batches(record, kind, file):
                    ends += [(_image_id(row), row["key"], _end(row)) for row in rows]
                    if kind in PICTURED:
                        yield from self._pictures(file.key, rows)
            except (pa.ArrowException, OSError, KeyError, TypeError, StorageError) as error:
                yield Problem(file.key, 3, "unreadable", f"cannot be read ({error})")
                return
            found, ends = ends[before:], ends if kind != "metadata" else ends[:before]
            keys[kind] = [key for _, key, _ in found]
            yield from self._ids(file.key, found)
        yield from self._beside(record, keys["metadata"])
        if keys["metadata"] != keys["data"]:
            message = "its rows are not those of the data file"
            yield Problem(record.result.metadata.key, 3, "rows", message)
        yield from self._rows(record, shard, ends)

    def _batches(
        self, record: CommitRecord, kind: str, file: DataFile
    ) -> Iterator[list[dict[str, Any]]]:
        """Rows of a file; those of a tar, or of loose pictures, are told by `metadata/`."""
        if kind == "data" and layout_of(file.key) != PARQUET:
            names = [*IDS, *PICTURE]
            for batch in shard_rows(self._store, record, names, pictures=True):
                yield batch.select(names).to_pylist()
        else:
            yield from self._read(file.key, kind)

    def _read(self, key: str, kind: str) -> Iterator[list[dict[str, Any]]]:
        with self._store.open(key) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH):
                _check_columns(batch)
                yield batch.select([*IDS, *COLUMNS[kind]]).to_pylist()

    def _pictures(self, key: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
        with ThreadPoolExecutor(THREADS) as pool:
            for row, fault in zip(rows, pool.map(picture_fault, rows), strict=True):
                self.images += 1
                if fault:
                    yield Problem(key, 3, "picture", f"picture {row['key']}: {fault}")

    def _beside(self, record: CommitRecord, keys: Sequence[str]) -> Iterator[Problem]:
        """A tar, or an index of loose pictures, holds the rows of `metadata/` and no others."""
        data = record.result.data
        if layout_of(data.key) == PARQUET:
            return
        try:
            names = picture_names(self._store, data.key)
        except StorageError as error:
            yield Problem(data.key, 3, "unreadable", f"cannot be read ({error})")
            return
        tar = layout_of(data.key) == WEBDATASET
        if names != [sample_name(key) if tar else key for key in keys]:
            yield Problem(data.key, 3, "rows", "its pictures are not those of the metadata file")

    def _ids(self, key: str, found: Sequence[tuple[ImageId, str, str]]) -> Iterator[Problem]:
        for (image_id, name, _), (following, _, _) in pairwise(found):
            if following <= image_id:
                what = "stands twice" if following == image_id else "is followed by an earlier one"
                yield Problem(key, 3, "order", f"picture {name} {what}")
        for (row, image), name, _ in found:
            if name != image_key(row, image, self._run):
                message = f"key {name!r} of row {row}, image {image}"
                yield Problem(key, 3, "rows", message)

    def _rows(
        self, record: CommitRecord, shard: Shard, ends: Sequence[tuple[ImageId, str, str]]
    ) -> Iterator[Problem]:
        """Data, errors and filtered together hold each planned picture once."""
        key = record.result.data.key
        ordered = sorted(ends)
        ids = [image_id for image_id, _, _ in ordered]
        rows = {row for row, _ in ids}
        if len(set(ids)) != len(ids):
            yield Problem(key, 3, "rows", "a picture stands in two files of its shard")
        if len(ids) != shard.num_images:
            yield Problem(key, 3, "rows", f"{len(ids)} pictures of {shard.num_images} planned")
        if len(rows) != shard.num_rows:
            yield Problem(key, 3, "rows", f"{len(rows)} manifest rows of {shard.num_rows} planned")
        if rows and not shard.first_row <= min(rows) <= max(rows) < shard.end_row:
            window = f"{shard.first_row} to {shard.end_row - 1}"
            yield Problem(key, 3, "rows", f"holds rows that are not of its shard ({window})")
        yield from self._shared_rows(key, shard, rows)
        tally = Tally()
        for _, name, end in ordered:
            tally.add(name, end)
        if tally.images_sha256 != record.result.images_sha256:
            yield Problem(key, 3, "rows", "pictures and their ends are not those of the record")

    def _shared_rows(self, key: str, shard: Shard, rows: set[int]) -> Iterator[Problem]:
        """Shards of one window must not hold the same row."""
        window = (shard.first_row, shard.end_row)
        if window != self._window:
            self._window, self._rows_of_window = window, set()
        if shared := self._rows_of_window & rows:
            yield Problem(key, 3, "rows", f"row {min(shared)} stands in another shard too")
        self._rows_of_window |= rows


def picture_fault(row: Mapping[str, Any]) -> str:
    """What is wrong with a stored picture; empty when it is what its columns say."""
    data = row["image"]["bytes"]
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return "its bytes are not those of its sha256"
    planned = (row["image_width"], row["image_height"])
    try:
        size = picture_size(data, row["key"])
        if size != planned:
            return f"{size[0]}x{size[1]} pixels instead of {planned[0]}x{planned[1]}"
        pixels = decode(data, row["key"])
    except (DamagedError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"cannot be decoded ({error})"
    if keeps_pixels(data) and pixel_sha256(pixels) != row["pixel_sha256"]:
        return "its pixels are not those hashed"
    return ""


def _check_columns(batch: pa.RecordBatch) -> None:
    """Refuse what readers cannot open: Parquet takes any bytes for text and returns them."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"column '{name}': {error}") from error


def _image_id(row: Mapping[str, Any]) -> ImageId:
    return (row["row_index"], row["image_index"])


def _end(row: Mapping[str, Any]) -> str:
    return str(row.get("status") or RowStatus.SUCCESS)

"""Finished pictures of one shard attempt, on local disk until the shard is written.

One file that only grows, and in memory no more than where each picture lies in it. The
spool knows nothing of shards, stores or manifests. It is a cache: a worker that dies
takes it along, and what must outlive the worker goes into parts, which are slices of
the spool as Parquet. Nothing is ever read back after a crash.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.closing import Closing
from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.row_groups import RowGroupFile
from sdbatch.dataset.schema import IMAGE, spool_schema
from sdbatch.errors import DamagedError, SdbatchError
from sdbatch.records import ImageId

_READ_ROWS = 64  # rows of a part held at a time


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """A finished picture, or a failure, read back.

    Attributes:
        columns: Values as `columns.py` made them.
        data: The encoded picture; None for a failure.
    """

    image_id: ImageId
    columns: Mapping[str, Any]
    data: bytes | None


class _Place(NamedTuple):
    offset: int
    columns_bytes: int
    data_bytes: int  # -1: a failure


class Spool(Closing):
    """Finished pictures on local disk. Threads may append and read at the same time.

    Args:
        folder: Made if absent; what a dead attempt left in it is overwritten.
        schema: The frozen schema of `data/`, for those who write the shard from here.

    Raises:
        StorageError: From every method: the disk is full or the folder cannot be used.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self._rows = spool_schema(schema)
        self._known = frozenset(self._rows.names) - {IMAGE.name}
        self._folder = folder
        self._path = folder / "spool.bin"
        self._index: dict[ImageId, _Place] = {}
        self._saved: set[ImageId] = set()
        self._end = 0
        self._lock = threading.Lock()
        with local_disk(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            # Unbuffered: bytes that a full disk refused must not come back at the next write.
            self._file = self._path.open("w+b", buffering=0)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, image_id: ImageId) -> bool:
        return image_id in self._index

    def __iter__(self) -> Iterator[SpooledImage]:
        """Everything held now, by (row_index, image_index), one picture in memory at a time."""
        for image_id in sorted(self.image_ids()):
            yield self._read(image_id)

    def columns(self) -> Iterator[Mapping[str, Any]]:
        """What is known of everything held now, in the same order, without the pictures."""
        for image_id in sorted(self.image_ids()):
            place = self._index[image_id]
            yield json.loads(self._bytes(image_id, place.columns_bytes))

    def image_ids(self) -> list[ImageId]:
        """Pictures held, in order of arrival."""
        with self._lock:
            return list(self._index)

    def append(
        self,
        image_id: ImageId,
        columns: Mapping[str, Any],
        data: bytes | None,
        *,
        saved: bool = False,
    ) -> bool:
        """Keep a finished picture, or a failure (`data` None); False if it is held already.

        A write that fails leaves the spool as it was. What is `saved` stands elsewhere too:
        no part repeats it.
        """
        if unknown := columns.keys() - self._known:
            raise SdbatchError(f"picture {image_id}: no such column: {', '.join(sorted(unknown))}")
        head = json.dumps(dict(columns)).encode()
        place_bytes = -1 if data is None else len(data)
        with self._lock:
            if image_id in self._index:
                return False
            with local_disk(self._path):
                self._file.seek(self._end)
                _write_all(self._file, head)
                _write_all(self._file, data or b"")
            self._index[image_id] = _Place(self._end, len(head), place_bytes)
            self._end += len(head) + max(place_bytes, 0)
            if saved:
                self._saved.add(image_id)
            return True

    def write_part(self, path: Path) -> list[ImageId]:
        """Write everything that no part holds yet as Parquet, failures included.

        Returns:
            The pictures in it, in order; empty when nothing was left, and then no file.
        """
        fresh = sorted(image_id for image_id in self.image_ids() if image_id not in self._saved)
        if not fresh:
            return []
        with RowGroupFile(path, self._rows) as part:
            for image_id in fresh:
                held = self._read(image_id)
                part.add(held.columns, held.data)
            part.finish()
        self._saved.update(fresh)
        return fresh

    def forget_part(self, images: Iterable[ImageId]) -> None:
        """The part that was written of these pictures came to nothing: the next one has them."""
        self._saved.difference_update(images)

    def load_part(self, path: Path) -> list[ImageId]:
        """Take over the rows of a part; pictures held already are left as they are.

        Returns:
            The pictures that were new. They count as saved: no later part repeats them.

        Raises:
            DamagedError: The file is no part; what was read before the damage is kept.
        """
        taken = []
        for row in _part_rows(path, self._rows):
            image = row.pop(IMAGE.name)
            image_id = (row["row_index"], row["image_index"])
            if self.append(image_id, row, image and image["bytes"], saved=True):
                taken.append(image_id)
        return taken

    def close(self) -> None:
        """Delete the spool's file, and its folder if nothing else is in it. May be repeated."""
        self._file.close()
        with suppress(OSError):  # best effort: the worker's temp folder goes anyway
            self._path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _read(self, image_id: ImageId) -> SpooledImage:
        place = self._index[image_id]
        record = self._bytes(image_id, place.columns_bytes + max(place.data_bytes, 0))
        columns = json.loads(record[: place.columns_bytes])
        data = None if place.data_bytes < 0 else record[place.columns_bytes :]
        return SpooledImage(image_id, columns, data)

    def _bytes(self, image_id: ImageId, length: int) -> bytes:
        """The first bytes of what is held of a picture: its columns, then the picture."""
        with self._lock, local_disk(self._path):
            self._file.seek(self._index[image_id].offset)
            record = self._file.read(length)
        if len(record) != length:
            raise DamagedError(str(self._path), f"picture {image_id} is cut short")
        return record


def _write_all(file: Any, data: bytes) -> None:
    # Raw files may take less than they are given, most of all on a disk that is filling up.
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _part_rows(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as part:
            if part.schema_arrow.names != schema.names:
                raise DamagedError(path.name, "its columns are not those of a part")
            for batch in part.iter_batches(batch_size=_READ_ROWS):
                # Moments go through the spool's JSON as integers.
                at = batch.schema.get_field_index("created_at")
                moments = batch.column(at).cast(pa.int64())
                yield from batch.set_column(at, "created_at", moments).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(path.name, f"cannot be read as a part ({error})") from error

"""One output file of an export in the making: Parquet, a tar of samples, or single pictures.

Each takes rows with their pictures in order and leaves local files: one with pictures, where
there is such a file, and one with the same rows without them. Single pictures go to the store as
they come; nobody counts them before the record of their file stands.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from sdbatch.closing import Closing
from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.row_groups import ShardFile
from sdbatch.dataset.schema import IMAGE, metadata_schema
from sdbatch.dataset.webdataset import sample_json
from sdbatch.errors import DamagedError
from sdbatch.storage.named_key import NamedKey
from sdbatch.storage.store import Store
from sdbatch.transfer.table_file import TableFile
from sdbatch.transfer.terms import Terms

FILE_NAME = pa.field("file_name", pa.string())
"""What the picture of a row is called: `datasets` finds pictures by it."""

UPLOADS = 8
"""Single pictures on their way at the same time."""


@dataclass(frozen=True, slots=True)
class Written:
    """Local files of a finished output.

    Attributes:
        data: With pictures; None where each picture is a file of its own.
        rows: Without.
    """

    data: ShardFile | None
    rows: ShardFile


class Output(Closing):
    """Takes rows and makes a file of them."""

    @abstractmethod
    def add(self, rows: pa.RecordBatch, names: Sequence[str]) -> None:
        """Append rows of the full schema with pictures, and what each picture is called."""

    @abstractmethod
    def finish(self) -> Written:
        """Write what is left."""


def rows_schema(schema: pa.Schema, terms: Terms) -> pa.Schema:
    """Columns of the rows that stand beside the pictures."""
    named = [] if terms.format == "parquet" else [FILE_NAME]
    return metadata_schema(pa.schema([*named, *schema]))


def open_output(folder: Path, schema: pa.Schema, terms: Terms, store: Store) -> Output:
    """An output of the format that was asked for, its local files in `folder`."""
    if terms.format == "parquet":
        return ParquetOutput(folder, schema, terms)
    if terms.format == "webdataset":
        return TarOutput(folder, schema, terms)
    return PicturesOutput(folder, schema, terms, store)


class _Rows(Output):
    """What all outputs have in common: the file of rows without pictures."""

    def __init__(self, folder: Path, schema: pa.Schema, terms: Terms) -> None:
        with local_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._schema, self._terms = rows_schema(schema, terms), terms
        self._rows = TableFile(folder / "rows.parquet", self._schema)

    def close(self) -> None:
        self._rows.close()

    def add(self, rows: pa.RecordBatch, names: Sequence[str]) -> None:
        """Append the rows without their pictures."""
        if FILE_NAME.name in self._schema.names:
            rows = rows.append_column(FILE_NAME, pa.array(names, pa.string()))
        self._rows.add(rows)


class ParquetOutput(_Rows):
    """One Parquet file with pictures, as `dataset/parquet.py` writes shards."""

    def __init__(self, folder: Path, schema: pa.Schema, terms: Terms) -> None:
        super().__init__(folder, schema, terms)
        self._data = TableFile(folder / "data.parquet", schema)

    def close(self) -> None:  # noqa: D102
        self._data.close()
        super().close()

    def add(self, rows: pa.RecordBatch, names: Sequence[str]) -> None:  # noqa: D102
        super().add(rows, names)
        self._data.add(rows)

    def finish(self) -> Written:  # noqa: D102
        return Written(self._data.finish(), self._rows.finish())


class TarOutput(_Rows):
    """One tar: a picture, its columns as JSON, and its prompt if that was asked for."""

    def __init__(self, folder: Path, schema: pa.Schema, terms: Terms) -> None:
        super().__init__(folder, schema, terms)
        self._full, self._samples = schema, 0
        self._path = folder / "data.tar"
        with local_disk(self._path):
            # Names may be long and of any script, which older forms of tar do not hold.
            self._tar = tarfile.open(self._path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def close(self) -> None:  # noqa: D102
        with local_disk(self._path):
            self._tar.close()
        super().close()

    def add(self, rows: pa.RecordBatch, names: Sequence[str]) -> None:  # noqa: D102
        pictured = rows.to_pylist()
        full = [f"{name}.{row['format']}" for name, row in zip(names, pictured, strict=True)]
        super().add(rows, full)
        for name, row in zip(names, pictured, strict=True):
            self._member(f"{name}.{row['format']}", row[IMAGE.name]["bytes"])
            self._member(f"{name}.json", sample_json(row, self._full))
            if self._terms.captions:
                self._member(f"{name}.txt", (row["prompt"] or "").encode())
            self._samples += 1

    def finish(self) -> Written:  # noqa: D102
        with local_disk(self._path):
            self._tar.close()
            with self._path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = self._path.stat().st_size
        return Written(ShardFile(self._path, self._samples, size, digest), self._rows.finish())

    def _member(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # owner and time of a TarInfo are zero, its mode 0644
        member.size = len(data)
        with local_disk(self._path):
            self._tar.addfile(member, io.BytesIO(data))


class PicturesOutput(_Rows):
    """Each picture as a file of its own, with its prompt beside it if that was asked for."""

    def __init__(self, folder: Path, schema: pa.Schema, terms: Terms, store: Store) -> None:
        super().__init__(folder, schema, terms)
        self._put = Uploads(store.put, UPLOADS)

    def close(self) -> None:  # noqa: D102
        self._put.close()
        super().close()

    def add(self, rows: pa.RecordBatch, names: Sequence[str]) -> None:  # noqa: D102
        super().add(rows, names)
        pictures = rows.column(IMAGE.name).field("bytes")
        for name, picture in zip(names, pictures, strict=True):
            self._put(NamedKey(name), picture.as_py())
        if self._terms.captions:
            for name, prompt in zip(names, rows.column("prompt").to_pylist(), strict=True):
                self._put(NamedKey(caption_name(name)), (prompt or "").encode())

    def finish(self) -> Written:  # noqa: D102
        self._put.wait()
        return Written(None, self._rows.finish())


class Uploads:
    """A few calls that may be under way at once; with one, each is made where it is asked for.

    Args:
        put: Stores bytes under a key.
        limit: So many at a time; whoever asks for more waits.
    """

    def __init__(self, put: Callable[[str, bytes], None], limit: int) -> None:
        self._put, self._limit = put, limit
        self._pool = ThreadPoolExecutor(limit, "upload") if limit > 1 else None
        self._open: list[Future[None]] = []

    def __call__(self, key: str, data: bytes) -> None:
        """Store an object, perhaps later; an earlier one's failure is raised here."""
        if self._pool is None:
            self._put(key, data)
            return
        self._open.append(self._pool.submit(self._put, key, data))
        if len(self._open) >= 4 * self._limit:
            self._open.pop(0).result()

    def wait(self) -> None:
        """Return when all are stored; raise what one of them met."""
        while self._open:
            self._open.pop(0).result()

    def close(self) -> None:
        """Let those under way end, and begin no more."""
        for future in self._open:
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown()


def caption_name(name: str) -> str:
    """The text beside a picture."""
    return f"{name.rpartition('.')[0]}.txt"


def check_pictures(rows: pa.RecordBatch, where: str) -> None:
    """Refuse to pass on a picture that is not the one its row describes.

    Raises:
        DamagedError: One is not.
    """
    pictures = rows.column(IMAGE.name).field("bytes")
    for key, sha256, picture in zip(
        rows.column("key"), rows.column("sha256"), pictures, strict=True
    ):
        data = picture.as_buffer() if picture.is_valid else b""
        if hashlib.sha256(data).hexdigest() != sha256.as_py():
            raise DamagedError(
                where, f"picture {key} is not the one that was drawn, mend it with sdbatch repair"
            )


def discard(path: Path) -> None:
    """Remove a local file that is stored now."""
    with suppress(OSError):
        path.unlink(missing_ok=True)

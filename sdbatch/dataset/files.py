"""The layout of loose files: a shard is a folder of pictures, with an index that proves each.

    images/00012-<attempt>/000000012_000.png    000000012_000.txt (the prompt, if asked for)
    images/00012-<attempt>/index.parquet        name, size and sha256 of each picture, in order

The index is what a commit record names: whoever has it can check every byte of the folder.
Readers need one table of all rows beside the pictures: `metadata.parquet`, written at the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.row_groups import RowGroupFile, UserColumns, picture_name
from sdbatch.dataset.schema import IMAGE, features_of
from sdbatch.errors import DamagedError, InputError

FILE_NAME = pa.field("file_name", pa.string())
"""The column by which `datasets` finds the picture of a row."""

FOLDER_ENTRIES = 10_000
"""Hubs list no more of one folder."""

_CAPTION = (pa.field("caption_bytes", pa.int64()), pa.field("caption_sha256", pa.string()))


class LooseFile(NamedTuple):
    """A file of a shard's folder: its name there, and what is in it."""

    name: str
    data: bytes


class IndexedFile(NamedTuple):
    """A file that an index names, and what it must be."""

    name: str
    size_bytes: int
    sha256: str


class IndexFile(RowGroupFile):
    """The index of a shard's folder in the making; the pictures themselves go elsewhere.

    It has the columns of `metadata/`, so that either file makes good for the other.

    Args:
        path: Local file, replaced if it exists.
        schema: The schema of `data/`.
        user: The manifest's own columns.
        captions: Each picture has its prompt beside it.
        footer: Facts for the footer.
    """

    def __init__(
        self,
        path: Path,
        schema: pa.Schema,
        user: UserColumns,
        captions: bool,
        footer: Mapping[str, str],
    ) -> None:
        plain = [field for field in schema if field.name != IMAGE.name]
        super().__init__(path, pa.schema((FILE_NAME, *plain, *_CAPTION)), user, footer)
        self._captions = captions

    def add(self, columns: Mapping[str, Any], data: bytes | None) -> None:  # noqa: ARG002
        """Append a picture; its bytes are not kept."""
        name = picture_name(columns["key"], columns["format"])
        row = {**columns, "file_name": name}
        if self._captions:
            caption = caption_of(columns)
            row |= {
                "caption_bytes": len(caption),
                "caption_sha256": hashlib.sha256(caption).hexdigest(),
            }
        super().add(row, None)


def loose_files(
    pictures: Iterable[tuple[Mapping[str, Any], bytes]], captions: bool
) -> Iterator[LooseFile]:
    """The files of a shard's folder but its index, one picture in memory at a time."""
    for columns, data in pictures:
        yield LooseFile(picture_name(columns["key"], columns["format"]), data)
        if captions:
            yield LooseFile(caption_name(columns["key"]), caption_of(columns))


def caption_name(key: str) -> str:
    """What the text beside a picture is called."""
    return f"{key}.txt"


def caption_of(columns: Mapping[str, Any]) -> bytes:
    """The text beside a picture: its prompt, as it is."""
    return str(columns["prompt"]).encode()


def read_index(source: IO[bytes], name: str) -> Iterator[IndexedFile]:
    """What an index says of its folder, pictures and captions.

    Raises:
        DamagedError: It is no index.
    """
    columns = ["key", "file_name", "image_bytes", "sha256", *(field.name for field in _CAPTION)]
    try:
        with pq.ParquetFile(source, pre_buffer=False) as file:
            for batch in file.iter_batches(columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    yield IndexedFile(row["file_name"], row["image_bytes"], row["sha256"])
                    if row["caption_sha256"] is not None:
                        text = caption_name(row["key"])
                        yield IndexedFile(text, row["caption_bytes"], row["caption_sha256"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DamagedError(name, f"cannot be read as an index ({error})") from error


def entries_of(images: int, captions: bool) -> int:
    """Files in the folder of a shard of so many pictures."""
    return images * (2 if captions else 1) + 1


def table_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of `metadata.parquet` for a dataset whose `data/` would have `schema`."""
    plain = pa.schema((FILE_NAME, *(field for field in schema if field.name != IMAGE.name)))
    return plain.with_metadata(
        {"huggingface": json.dumps({"info": {"features": features_of(plain)}})}
    )


def demand_plain_names(fields: Iterable[pa.Field]) -> None:
    """Refuse columns that an index has, or that readers of it take for names of pictures.

    Raises:
        InputError: One is called `file_name`, or ends so, at whatever depth.
    """
    taken = [field.name for field in _CAPTION]
    for field in fields:
        if field.name in taken:
            raise InputError(
                f"column '{field.name}' is a column of --format files: rename it in the manifest"
            )
        if name := picture_reference(field):
            raise InputError(
                f"column '{field.name}': readers of --format files take '{name}' for the name "
                "of a picture: rename it in the manifest"
            )


def picture_reference(field: pa.Field) -> str:
    """What in a column, at whatever depth, readers of folders take for the name of a picture.

    `datasets` puts the file in place of the name, and fails where there is none; empty where
    it finds nothing of the kind.
    """
    for name in _names(field):
        one = name.removesuffix("s")
        if one == FILE_NAME.name or one.endswith(f"_{FILE_NAME.name}"):
            return name
    return ""


def _names(field: pa.Field) -> Iterator[str]:
    yield field.name
    kind = field.type
    if pa.types.is_struct(kind):
        for part in kind:
            yield from _names(part)
    elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _names(kind.value_field.with_name(""))

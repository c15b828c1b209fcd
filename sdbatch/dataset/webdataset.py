"""The webdataset layout: a shard is one tar of pictures, each with its columns as JSON beside it.

    000000012_000.png   000000012_000.json   000000012_000.txt (the prompt, if asked for)

Readers infer types from the first samples, so every sample has the same members and its JSON
the same keys, each with values of one type and never null. What JSON cannot say stands as
"", -1 or false; `metadata/` has the value. Nothing in a tar depends on a clock or a user.
"""

from __future__ import annotations

import base64
import io
import json
import math
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
from pyarrow import types

from sdbatch.dataset.disk import local_disk
from sdbatch.dataset.row_groups import RowFile, UserColumns
from sdbatch.dataset.schema import IMAGE, RESERVED_COLUMNS, class_names
from sdbatch.errors import DamagedError

JSON, TEXT = "json", "txt"
NO_NUMBER = -1.0
"""Stands for a number that is null; no score is so low."""


class TarFile(RowFile):
    """A tar of samples in the making.

    Args:
        path: Local file, replaced if it exists.
        schema: The schema of `data/`.
        user: The manifest's own columns.
        captions: Add the prompt as `{key}.txt`.
    """

    def __init__(self, path: Path, schema: pa.Schema, user: UserColumns, captions: bool) -> None:
        super().__init__(path, schema, user)
        self._captions = captions
        with local_disk(path):
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def _write(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            image = row[IMAGE.name]
            name, _, ending = image["path"].rpartition(".")
            name = sample_name(name)
            self._add(f"{name}.{ending}", image["bytes"])
            self._add(f"{name}.{JSON}", sample_json(row, self._schema))
            if self._captions:
                self._add(f"{name}.{TEXT}", row["prompt"].encode())

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # owner and time of a TarInfo are zero, its mode 0644
        member.size = len(data)
        self._tar.addfile(member, io.BytesIO(data))

    def _close(self) -> None:
        self._tar.close()


class Sample(NamedTuple):
    """A picture of a tar, and its columns as the JSON that stands beside it."""

    name: str
    data: bytes
    text: bytes


def sample_name(key: str) -> str:
    """What the members of a picture are called: readers split names at the first dot."""
    return key.replace(".", "_")


def read_samples(
    source: IO[bytes], name: str, wanted: frozenset[str] | None = None
) -> Iterator[Sample]:
    """Pictures of a tar in its order.

    Args:
        source: Seekable; what is not wanted is passed over unread.
        name: What messages call it.
        wanted: Names of samples; None for all.

    Raises:
        DamagedError: It is no such tar; what was read before the damage was yielded.
    """
    try:
        with tarfile.open(fileobj=source, mode="r:") as tar:
            data, of = b"", ""
            for member in tar:
                stem, _, ending = member.name.partition(".")
                if ending == TEXT or (wanted is not None and stem not in wanted):
                    continue
                content = tar.extractfile(member)
                if content is None:
                    raise DamagedError(name, f"member {member.name} is no file")
                if ending != JSON:
                    data, of = content.read(), stem
                elif of == stem:
                    yield Sample(stem, data, content.read())
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DamagedError(name, f"cannot be read as a tar ({error})") from error


def sample_json(row: Mapping[str, Any], schema: pa.Schema) -> bytes:
    """The columns of a row but its picture, one line of JSON without null."""
    values = {
        field.name: _value(row[field.name], field) for field in schema if field.name != IMAGE.name
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()


def sample_columns(text: bytes, names: Iterable[str]) -> dict[str, Any]:
    """Our own columns out of a sample's JSON, as the spool holds them.

    A text that was null comes back empty, a score that nobody gave as none.

    Raises:
        ValueError: It is no such JSON.
        KeyError: Likewise.
    """
    values = json.loads(text)
    columns = {name: values[name] for name in names if name in values}
    scores = [name for name in columns if name not in RESERVED_COLUMNS]
    columns |= {name: None for name in scores if columns[name] == NO_NUMBER}
    if "nsfw" in columns and columns.get("nsfw_score", 0.0) is None:
        columns["nsfw"] = None
    moment = datetime.fromisoformat(columns["created_at"])
    columns["created_at"] = int(moment.timestamp()) * 1_000_000 + moment.microsecond
    return columns


def sample_features(schema: pa.Schema, picture: str, captions: bool) -> dict[str, Any]:
    """Member to `datasets` feature of a sample, as YAML of a dataset card says it."""
    columns = [
        {"name": field.name, "dtype": _dtype(field)} for field in schema if field.name != IMAGE.name
    ]
    members: list[dict[str, Any]] = [
        {"name": picture, "dtype": "image"},
        {"name": JSON, "struct": columns},
    ]
    text = [{"name": TEXT, "dtype": "string"}] if captions else []
    places = [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
    return {"features": [*members, *text, *places]}


def _dtype(field: pa.Field) -> Any:
    if names := class_names(field):
        return {"class_label": {"names": {str(number): name for number, name in enumerate(names)}}}
    if types.is_boolean(field.type):
        return "bool"
    if _is_small_integer(field.type):
        return "int64"
    return "float64" if types.is_floating(field.type) else "string"


def _value(value: Any, field: pa.Field) -> Any:
    """A value as its JSON type, by the type of the column alone."""
    kind = field.type
    if types.is_boolean(kind):
        return bool(value)
    if _is_small_integer(kind):
        return int(NO_NUMBER) if value is None else value
    if types.is_floating(kind):
        return _number(value)
    if value is None:
        return ""
    if types.is_nested(kind):
        return json.dumps(value, ensure_ascii=False, default=_text)
    return _text(value)


def _is_small_integer(kind: pa.DataType) -> bool:
    # Readers hold JSON numbers as int64.
    return bool(types.is_integer(kind) and kind != pa.uint64())


def _number(value: float | None) -> float:
    if value is None or math.isnan(value):
        return NO_NUMBER
    return max(min(float(value), sys.float_info.max), -sys.float_info.max)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

"""What a row says, as a hash: equal requests have equal content, whatever else differs.

Identity of a row that has no `id`. The hash reads the values the manifest states, not the
defaults it leaves open, so a changed flag keeps every seed. Column order, null columns,
user columns and Arrow layouts do not enter it; neither does `num_images_per_prompt`, so
that asking for more pictures of a row keeps those it already had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdbatch.manifest.schema import CANONICAL, canonical_table

DIGEST_BYTES = 16
CONTENT_COLUMNS = tuple(
    sorted(name for name in CANONICAL if name not in ("id", "num_images_per_prompt"))
)
"""Columns that make up a row's content."""


def content_digests(table: pa.Table) -> list[bytes]:
    """Sixteen bytes a row: the hash of what each row says."""
    stated = canonical_table(table)
    names = [name for name in CONTENT_COLUMNS if name in stated.column_names]
    parts = [_part(name, _said(name, stated.column(name))) for name in names]
    if not parts:
        return [_digest(b"")] * table.num_rows
    joined = pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))
    return [_digest(text) for text in joined.to_pylist()]


def id_digests(ids: pa.ChunkedArray) -> list[bytes]:
    """Sixteen bytes an id; null ids hash like an empty text."""
    return [_digest(text or b"") for text in ids.cast(pa.string()).cast(pa.binary()).to_pylist()]


def content_hash(row: Mapping[str, Any]) -> str:
    """The hash of what one manifest row says, as 32 hexadecimal digits."""
    stated = {name: row[name] for name in CONTENT_COLUMNS if row.get(name) is not None}
    if not stated:
        return _digest(b"").hex()
    table = pa.table({name: pa.array([value]) for name, value in stated.items()})
    return content_digests(table)[0].hex()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES, person=b"sdbatch.row").digest()


def _part(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """`name=length:value` per row, empty where the value is null: no two rows can collide."""
    if pa.types.is_floating(column.type):
        column = _bits(column)
    value = column.cast(pa.large_string()).cast(pa.large_binary())
    length = pc.binary_length(value).cast(pa.large_string()).cast(pa.large_binary())
    head, colon, end = (
        pa.scalar(text, pa.large_binary()) for text in (f"{name}=".encode(), b":", b"")
    )
    return pc.fill_null(pc.binary_join_element_wise(head, length, colon, value, end), b"")


def _said(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without the value that says nothing: it was no part of a row's content once."""
    if name != "true_cfg_scale":
        return column
    return pc.if_else(pc.equal(column, pa.scalar(1.0, column.type)), None, column)


def _bits(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """float32 values as the integers of their bits: no text form that a library may change."""
    known = pc.is_valid(column).to_numpy()
    bits = (pc.fill_null(column, 0.0).to_numpy() + np.float32(0.0)).view(np.int32)
    return pa.chunked_array([pa.array(bits, mask=~known)])

"""Texts that are no UTF-8: found before they reach a dataset, which nobody could open then.

Parquet stores any bytes as text and Arrow reads them back unseen. A column is checked as a
whole, which is quick; only one that fails is walked value by value.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdbatch.errors import ManifestError
from sdbatch.manifest.schema import is_text

_NESTED = "holds a text that is not UTF-8, re-encode it"


def holds_text(kind: pa.DataType) -> bool:
    """Whether values of this type are texts or hold some, however deep."""
    if isinstance(kind, pa.BaseExtensionType):
        return holds_text(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return holds_text(kind.value_type)
    inner = (kind.field(place).type for place in range(kind.num_fields))
    return is_text(kind) or any(holds_text(part) for part in inner)


def broken_texts(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Mask of values that are, or hold, a text that is no UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return np.array([not _readable(value) for value in column], np.bool_)
    return np.zeros(len(column), np.bool_)


def text_fault(kind: pa.DataType) -> str:
    """Words for a broken value of a column of this type."""
    return "is not UTF-8 text, re-encode it" if is_text(kind) else _NESTED


def demand_texts(manifest: str, table: pa.Table, row_indices: NDArray[np.int64]) -> None:
    """Refuse rows that hold broken texts.

    Args:
        manifest: Its name, for messages.
        table: Manifest rows, all columns.
        row_indices: Position of each of them in the manifest.

    Raises:
        ManifestError: One is there; the first is named.
    """
    broken = list(_first_of_each(table))
    if broken:
        place, name = min(broken)
        reason = text_fault(table.schema.field(name).type)
        raise ManifestError(manifest, int(row_indices[place]), name, "", reason)


def _first_of_each(table: pa.Table) -> Iterator[tuple[int, str]]:
    for field in table.schema:
        if holds_text(field.type):
            mask = broken_texts(table.column(field.name))
            if mask.any():
                yield int(np.argmax(mask)), field.name


def _readable(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    except (ValueError, OverflowError):
        # A date that Python has no room for is no broken text.
        return True
    return True

"""Which Arrow types a dataset may hold, and what Hugging Face `datasets` calls them.

A manifest may bring any Arrow type; readers agree on fewer. Types are brought to that
common ground once, when the plan is made, so that a column reads the same in every
shard and every library, also where a shard holds nothing but nulls.

    null                                      string
    large_string, string_view, JSON           string
    large_binary, binary_view, fixed size     binary
    dictionary, run-end encoded               type of the values
    large_list, list_view, map                list (of {key, value} for a map)
    extension types                           type they are stored as
    decimal32, decimal64                      decimal128
    date64; time32[s], timestamp[s]           date32; the same in milliseconds
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from sdbatch.errors import InputError

_HF_NAMES = {
    "float": "float32",
    "double": "float64",
    "halffloat": "float16",
    "date32[day]": "date32",
}


def normal_type(kind: pa.DataType, column: str) -> pa.DataType:
    """The type under which a manifest column of type `kind` is stored; idempotent.

    Raises:
        InputError: No Parquet reader could show such a column.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return normal_type(kind.storage_type, column)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return normal_type(kind.value_type, column)
    if types.is_map(kind):
        key, value = normal_type(kind.key_type, column), normal_type(kind.item_type, column)
        return pa.list_(pa.struct([("key", key), ("value", value)]))
    if types.is_fixed_size_list(kind):
        return pa.list_(normal_type(kind.value_type, column), kind.list_size)
    if types.is_nested(kind) and hasattr(kind, "value_type"):
        return pa.list_(normal_type(kind.value_type, column))
    if types.is_struct(kind) and kind.num_fields:
        return pa.struct([(part.name, normal_type(part.type, column)) for part in kind])
    if types.is_nested(kind) or types.is_interval(kind):
        raise InputError(
            f"column '{column}': type {kind} cannot be stored in a dataset, "
            "drop the column or give it as text"
        )
    return _normal_leaf(kind)


def _normal_leaf(kind: pa.DataType) -> pa.DataType:
    if types.is_null(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if (
        types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    ):
        return pa.binary()
    if types.is_decimal32(kind) or types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    if types.is_date64(kind):
        return pa.date32()
    if kind == pa.time32("s"):
        return pa.time32("ms")
    if types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    return kind


def feature(kind: pa.DataType) -> dict[str, Any]:
    """The `datasets` feature of a stored type, as its `Features.to_dict` would give it."""
    if types.is_struct(kind):
        return {part.name: feature(part.type) for part in kind}
    if types.is_fixed_size_list(kind):
        return {"feature": feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    if types.is_list(kind):
        return {"feature": feature(kind.value_type), "_type": "List"}
    return {"dtype": _HF_NAMES.get(str(kind), str(kind)), "_type": "Value"}

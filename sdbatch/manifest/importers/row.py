"""A row on its way in: canonical columns with their types, all else kept as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from sdbatch.manifest.aliases import ALIASES, SHORT, SIZES, fold
from sdbatch.manifest.later import LATER
from sdbatch.manifest.schema import CANONICAL

Row = dict[str, Any]
"""Column to value: int, float or text; a column that is absent is null."""

TYPES: dict[str, pa.DataType] = {
    **dict.fromkeys(("seed", "width", "height", "num_inference_steps"), pa.int64()),
    **dict.fromkeys(("num_images_per_prompt", "clip_skip"), pa.int64()),
    **dict.fromkeys(("guidance_scale", "true_cfg_scale"), pa.float64()),
    **dict.fromkeys(("strength", "upscale_factor"), pa.float64()),
}
"""Types of the columns that are no text."""
MORE = "source_more"
"""Holds what is left, as a JSON object, when a source has too many names of its own."""
MAX_COLUMNS = 256
_DIGITS = re.compile(r"[+-]?[0-9]{1,19}")


def whole(text: Any) -> int | None:
    """A whole number of 64 bits, or None when it is none."""
    if isinstance(text, str) and _DIGITS.fullmatch(text.strip()):
        text = int(text)  # by way of a float a long seed would lose its last digits
    number = text if isinstance(text, int) and not isinstance(text, bool) else _number(text)
    if number is None or number != int(number) or not -(2**63) <= int(number) < 2**63:
        return None
    return int(number)


def real(text: Any) -> float | None:
    """A finite number, or None when it is none."""
    return _number(text)


def size(text: str) -> tuple[int, int] | None:
    """Width and height of `512x768`."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*[xX]\s*(\d{1,9})\s*", text, re.ASCII)
    return (int(match[1]), int(match[2])) if match else None


def put(row: Row, column: str, value: Any, source: str, prefix: str) -> None:
    """Put a value into its canonical column; one that does not fit is kept beside it.

    Args:
        row: It is changed.
        column: Canonical name; its type says what fits.
        value: As the source has it.
        source: What the source calls it.
        prefix: Of columns that are kept beside.
    """
    kind = TYPES.get(column)
    read = value if kind is None else whole(value) if kind == pa.int64() else real(value)
    if read is None or column in row:
        keep(row, source, value, prefix)
    else:
        row[column] = read if kind is not None else as_text(read)


def put_seed(row: Row, value: Any, source: str, prefix: str) -> None:
    """A seed; -1, which asks for any, leaves the column empty."""
    if whole(value) == -1:
        return
    put(row, "seed", value, source, prefix)


def keep(row: Row, source: str, value: Any, prefix: str = "") -> None:
    """Keep a value that is not ours as text, under a name that nothing else claims."""
    name = own_name(source, prefix)
    count, wanted = 1, name
    while wanted in row:
        count += 1
        wanted = f"{name}_{count}"
    row[wanted] = as_text(value)


def own_name(source: str, prefix: str = "") -> str:
    """Column for what a source calls so; `source_` before names that would be read as ours."""
    name = re.sub(r"\W+", "_", fold(source)).strip("_") or "unnamed"
    name = f"{prefix}{name[:100]}"
    claimed = name in CANONICAL or name in LATER or name in ALIASES or name in SIZES
    return f"source_{name}" if claimed or name in SHORT or name in TYPES else name


def as_text(value: Any) -> str:
    """A text as it is, without lone surrogates; anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode()


def table_of(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table of a schema; names that it lacks go to `MORE`."""
    names = schema.names
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        rest = {name: value for name, value in row.items() if name not in columns}
        shown = {**row, MORE: as_text(rest)} if rest else row
        for name in names:
            columns[name].append(shown.get(name))
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def schema_of(names: Mapping[str, None]) -> pa.Schema:
    """Arrow schema of columns: canonical ones first, the rest in the order they came."""
    first = [name for name in (*CANONICAL, *TYPES) if name in names]
    rest = [name for name in names if name not in first]
    kept = list(dict.fromkeys([*first, *rest]))
    if len(kept) > MAX_COLUMNS:
        kept = [*kept[: MAX_COLUMNS - 1], MORE]
    return pa.schema([pa.field(name, TYPES.get(name, pa.string())) for name in kept])


def _number(text: Any) -> float | None:
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        return None
    if isinstance(text, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", text, re.ASCII):
        return int(text)
    try:
        number = float(text)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

"""Which drawn pictures of a shard are kept apart, and why: `--filter` and `--best-of`.

Decided when every picture of a shard has its end, from the columns alone. A picture for which
the condition is true is filtered, and the reason is the part of the condition that says so; of
what is left of a row, the best picture stays and the others are filtered as `best_of`. Where a
score is missing nothing is held against a picture, but it is nobody's best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sdbatch.dataset.row_groups import UserColumns
from sdbatch.dataset.schema import CAPTION, role_of, user_fields
from sdbatch.dataset.spool import Spool
from sdbatch.dataset.where import columns, parse_where
from sdbatch.dataset.where_syntax import alternatives
from sdbatch.records import RowStatus, RunSpec

BEST_OF = "best_of"
"""Reason of pictures that are not the best of their row."""


def choose_filtered(spool: Spool, spec: RunSpec, user: pa.Table) -> Mapping[str, str]:
    """Pictures of a finished shard that end filtered.

    Args:
        spool: Every picture of the shard.
        spec: The run, with its condition and what is best.
        user: The manifest's own columns of these rows, with `row_index`.

    Returns:
        Key to reason.
    """
    if not spec.filter and not spec.best_of:
        return {}
    wanted = {"key", "row_index", *columns(spec.filter or "true")} | {spec.best_by} - {""}
    table = _drawn(spool, wanted, user)
    reasons = _matching(table, spec.filter, spool.schema) if spec.filter else {}
    if spec.best_of:
        left = table.filter(pc.invert(pc.is_in(table["key"], pa.array(list(reasons), pa.string()))))
        reasons |= dict.fromkeys(_beaten(left, spec.best_by), BEST_OF)
    return reasons


def count_unscored(spool: Spool, names: Sequence[str]) -> int:
    """Pictures of a shard that a scorer failed on; without words there was nothing to say.

    Args:
        spool: Every picture of the shard.
        names: Columns of the scorers.
    """
    if not names:
        return 0
    rows = (row for row in spool.columns() if row["status"] != RowStatus.FAILED)
    said = (row for row in rows if row["prompt"].strip())
    return sum(any(row.get(name) is None for name in names) for row in said)


def _drawn(spool: Spool, wanted: set[str], user: pa.Table) -> pa.Table:
    """The wanted columns of every picture that was drawn, the manifest's own among them."""
    own = user_fields(spool.schema)
    ours = [each for each in spool.schema if each.name in wanted and each not in own]
    rows = [row for row in spool.columns() if row["status"] == RowStatus.SUCCESS]
    arrays = {
        field.name: pa.array([row.get(_source(field)) for row in rows], field.type)
        for field in ours
    }
    found = UserColumns(user, [field for field in own if field.name in wanted])
    return pa.table(arrays | found.take([row["row_index"] for row in rows]))


def _source(field: pa.Field) -> str:
    """Where the spool has a column: a caption repeats the prompt."""
    return "prompt" if role_of(field) == CAPTION else field.name


def _matching(table: pa.Table, condition: str, schema: pa.Schema) -> dict[str, str]:
    """Key to the first part of the condition that is true of a picture."""
    reasons: dict[str, str] = {}
    for part in reversed(alternatives(condition)):
        chosen = table.filter(parse_where(part, schema))
        reasons |= dict.fromkeys(chosen["key"].to_pylist(), part)
    return reasons


def _beaten(table: pa.Table, column: str) -> Iterator[str]:
    """Keys of pictures whose row has a better one; of equal ones the first stays."""
    best: dict[int, tuple[float, str]] = {}
    names: Sequence[str] = ("row_index", "key", column)
    for row_index, key, value in zip(*(table[name].to_pylist() for name in names), strict=True):
        rank = _rank(value)
        held = best.get(row_index)
        if held is None:
            best[row_index] = (rank, key)
        elif rank > held[0]:
            best[row_index] = (rank, key)
            yield held[1]
        else:
            yield key


def _rank(value: Any) -> float:
    """A missing or odd number is behind all others."""
    number = -math.inf if value is None else float(value)
    return -math.inf if math.isnan(number) else number

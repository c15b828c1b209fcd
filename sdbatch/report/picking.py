"""Pictures of a dataset that a condition chooses: small columns first, then the files of few."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from sdbatch.dataset.schema import IMAGE
from sdbatch.dataset.where import columns as columns_of
from sdbatch.dataset.where import parse_where
from sdbatch.errors import InputError
from sdbatch.report.notebook import Picture, Pictures
from sdbatch.storage.store import Store
from sdbatch.transfer.score_files import JoinedScores
from sdbatch.transfer.sources import Source, Sources

SOME = 24


def pick_pictures(store: Store, where: str | None, limit: int) -> Pictures:
    """The first pictures of all runs that a condition chooses.

    Args:
        where: See `dataset/where.py`; columns of scores that were made later can be named.
        limit: Most pictures.

    Raises:
        InputError: The condition cannot be read, or there is no run.
        DamagedError: A file cannot be read.
    """
    if limit < 0:
        raise InputError(f"limit {limit}: must be 0 or more")
    sources = Sources(store, JoinedScores(store))
    plain = pa.schema([field for field in sources.schema if field.name != IMAGE.name])
    condition = None if where is None else parse_where(where, plain)
    asked = sorted({"key", *(columns_of(where) if where is not None else ())})
    found: list[Picture] = []
    for source in sources if limit else ():
        keys = _keys(sources, source, asked, condition, limit - len(found))
        found += _read(sources, source, keys) if keys else ()
        if len(found) >= limit:
            break
    return Pictures(tuple(found))


def _keys(
    sources: Sources, source: Source, asked: list[str], condition: pc.Expression | None, most: int
) -> list[str]:
    keys: list[str] = []
    for batch in sources.rows(source, asked):
        table = pa.table(batch)
        chosen = table if condition is None else table.filter(condition)
        keys += chosen["key"].to_pylist()
        if len(keys) >= most:
            break
    return keys[:most]


def _read(sources: Sources, source: Source, keys: list[str]) -> Iterator[Picture]:
    left = set(keys)
    for batch in sources.rows(source, pictures=True):
        inside = pc.is_in(batch.column("key"), pa.array(sorted(left)))
        for row in batch.filter(inside).to_pylist():
            left.discard(row["key"])
            yield Picture(row["key"], row.pop(IMAGE.name)["bytes"], row)
        if not left:
            return

"""A manifest against another one, or against what a dataset holds: what is new, gone, changed.

A dataset stores what rows came to, so what a manifest leaves open differs from nothing there.
Pictures that failed count as rows too: their manifest asked for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sdbatch.dataset.schema import TRUE_CFG
from sdbatch.errors import InputError
from sdbatch.manifest.comparable import (
    BY_CONTENT,
    BY_ID,
    compared_columns,
    in_one_spelling,
    manifest_rows,
)
from sdbatch.manifest.content import id_digests
from sdbatch.manifest.differences import Difference, Rows, compare
from sdbatch.manifest.opening import reading
from sdbatch.manifest.reader import Manifest
from sdbatch.remote import is_url
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store, open_store

REQUEST = (
    *("prompt", "negative_prompt", "seed", "width", "height", "num_inference_steps"),
    *("guidance_scale", "true_cfg_scale", "scheduler", "scheduler_config", "micro_conditioning"),
)
"""Columns of a dataset that say what a row asked for, under the names of a manifest."""
_CONTENT = re.compile(r"[0-9a-f]{32}")
_BATCH = 65536


@dataclass(frozen=True)
class _Dataset:
    url: str
    store: Store


Side = Manifest | _Dataset


def diff(old: str, new: str) -> Difference:
    """Compare two manifests, or a manifest and a dataset; each may be the older side.

    Rows are known by `id` where both sides have one, else by all that they ask for.

    Raises:
        InputError: A side cannot be read, or both know their rows in different ways.
        StorageError: A store cannot be reached, or the folder for temporary files is full.
    """
    with ExitStack() as keep:
        return _compared(_side(old, keep), _side(new, keep))


def _compared(*sides: Side) -> Difference:
    manifests = [side for side in sides if isinstance(side, Manifest)]
    by = BY_ID if all("id" in side.schema.names for side in manifests) else BY_CONTENT
    columns = _columns(sides)
    open_side = ""
    if len(manifests) == 1:
        open_side = "old" if sides[0] is manifests[0] else "new"
    rows = [_rows(side, columns, by) for side in sides]
    return compare(rows[0], rows[1], columns, by, open_side=open_side)


def _side(url: str, keep: ExitStack) -> Side:
    local = not is_url(url)
    if local and not (Path(url) / layout.STATE_ROOT).is_dir():
        return keep.enter_context(reading(url))
    store = open_store(url)
    if RunFolder(store).read_job() is None:
        return keep.enter_context(reading(url))
    return _Dataset(url, store)


def _columns(sides: Sequence[Side]) -> tuple[str, ...]:
    """What both sides can be asked for; of two manifests, what either one states."""
    manifests = [side for side in sides if isinstance(side, Manifest)]
    stated = dict.fromkeys(name for side in manifests for name in compared_columns(side.schema))
    if len(manifests) == 2:
        return tuple(stated)
    if not manifests:
        return REQUEST
    return tuple(name for name in stated if name in REQUEST)


def _rows(side: Side, columns: Sequence[str], by: str) -> Iterator[Rows]:
    if isinstance(side, Manifest):
        return manifest_rows(side, columns, by)
    return _dataset_rows(side, columns, by)


def _dataset_rows(side: _Dataset, columns: Sequence[str], by: str) -> Iterator[Rows]:
    """The first picture of every row, whatever became of it."""
    wanted = ["row_index", "image_index", "row_id", *columns]
    for record in RunFolder(side.store).records():
        for kind, file in record.files:
            if kind == "data" or not file.num_rows:
                continue
            with side.store.open(file.key) as opened:
                for batch in pq.ParquetFile(opened, pre_buffer=False).iter_batches(
                    _BATCH, columns=wanted, use_threads=False
                ):
                    table = pa.table(batch)
                    table = table.filter(pc.equal(table["image_index"], 0))
                    if TRUE_CFG.name not in table.column_names:  # no matter of its model
                        none = pa.array([1.0] * table.num_rows, TRUE_CFG.type)
                        table = table.append_column(TRUE_CFG, none)
                    yield _one(side.url, table, columns, by)


def _one(url: str, table: pa.Table, columns: Sequence[str], by: str) -> Rows:
    ids = table.column("row_id")
    if by == BY_CONTENT:
        texts = [text or "" for text in ids.to_pylist()]
        if not all(_CONTENT.fullmatch(text) for text in texts):
            raise InputError(
                f"{url}: its rows are known by id: give the manifest the column 'id' they had"
            )
        digests = [bytes.fromhex(text) for text in texts]
    else:
        digests = id_digests(ids)
    values = in_one_spelling(table, columns)
    return Rows(digests, values, np.asarray(table.column("row_index"), np.int64))

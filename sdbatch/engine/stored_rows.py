"""Pictures of a dataset by their keys: the columns they came with, and their bytes.

Commit records say which file holds a row; of that file one small column, one row group
of columns and one row group of pictures are read, whatever the size of the dataset. The
manifest is not asked: a dataset says of every picture all that it takes to draw it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdbatch.dataset.layouts import PARQUET
from sdbatch.engine.job_folder import StoredJob
from sdbatch.engine.shard_pictures import layout_of, pictures_of, wanted
from sdbatch.errors import DamagedError, InputError
from sdbatch.manifest.prompt_syntax import PLAIN
from sdbatch.records import ImageId, RenderRow, RowStatus, image_key
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.commit import CommitRecord, RunFolder
from sdbatch.storage.store import Store

Key = str | int
"""A picture's key (`000000012_000`), or the index of a row, which stands for all its pictures."""

REQUEST = (
    *("row_index", "image_index", "row_id", "prompt", "negative_prompt", "seed"),
    *("width", "height", "num_inference_steps", "guidance_scale"),
    *("scheduler", "scheduler_config", "row_hash"),
    *("prompt_syntax", "true_cfg_scale", "micro_conditioning"),
)
"""Columns that say what was asked for."""

DRAWN = (
    *("model_revision", "dtype", "pipeline_class", "batch_size", "prompt_truncated"),
    *("render_env", "torch_version", "diffusers_version", "sdbatch_version", "pixel_sha256"),
)
"""Columns that say how it was drawn; rows that failed have none of them."""

FAILED = ("error_type", "error_message")

_KEY = re.compile(r"(?:(?P<run>[A-Za-z0-9._-]+)-)?(?P<row>\d{9,})_(?P<image>\d{3})")


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """A picture of a dataset, or one that could not be drawn.

    Attributes:
        row: The request, from the stored columns alone.
        facts: Columns of `DRAWN`, or of `FAILED`.
        data: The encoded picture; None when it could not be drawn.
        status: How it ended.
    """

    key: str
    row: RenderRow
    facts: Mapping[str, Any]
    data: bytes | None
    status: RowStatus


@dataclass(frozen=True, slots=True)
class _Asked:
    """A key taken apart; without `image_index` every picture of the row is meant."""

    text: str
    row_index: int
    image_index: int | None


def find_pictures(store: Store, job: StoredJob, keys: Sequence[Key]) -> list[StoredPicture]:
    """Read the named pictures, in the order of the keys, each once.

    Raises:
        InputError: A key is malformed, of no planned row, or of a row not drawn yet.
        DamagedError: A file is not what its record says.
    """
    asked = [_parse(key, store, job) for key in dict.fromkeys(keys)]
    rows = {each.row_index for each in asked}
    found: dict[ImageId, StoredPicture] = {}
    open_shards: dict[int, int] = {}
    folder = RunFolder(store, job.spec.run)
    for shard in job.shards:
        here = {row for row in rows if shard.first_row <= row < shard.end_row}
        if not here:
            continue
        record = folder.record(shard.shard_id)
        if record is None:
            open_shards |= dict.fromkeys(here, shard.shard_id)
            continue
        found |= {picture.row.image_id: picture for picture in _read(store, record, here)}
    chosen = [picture for each in asked for picture in _choose(each, found, open_shards, store)]
    return list({picture.key: picture for picture in chosen}.values())


def run_of_keys(keys: Sequence[Key]) -> str:
    """The run that keys name; `main` where they name none, as row numbers do.

    Raises:
        InputError: They are of several runs.
    """
    matches = [_KEY.fullmatch(str(key)) for key in keys]
    runs = sorted({match["run"] or layout.MAIN for match in matches if match})
    if len(runs) > 1:
        raise InputError(f"keys of {len(runs)} runs ({', '.join(runs)}): name those of one run")
    return runs[0] if runs else layout.MAIN


def _parse(key: Key, store: Store, job: StoredJob) -> _Asked:
    text, run = str(key), job.spec.run
    match = _KEY.fullmatch(text)
    last = image_key(job.rows - 1, 0, run)
    span = f"{store.url} holds rows 0 to {job.rows - 1}, keys {image_key(0, 0, run)} to {last}"
    if match:
        asked = _Asked(text, int(match["row"]), int(match["image"]))
        known = image_key(asked.row_index, int(match["image"]), run) == text
    elif text.isascii() and text.isdigit():
        asked, known = _Asked(text, int(text), None), True
    else:
        shown = f"{image_key(12, 0, run)} or a row number such as 12"
        raise InputError(f"key {text!r}: must be like {shown}; {span}")
    if not known or asked.row_index >= job.rows:
        raise InputError(f"key {text!r}: is not here; {span}")
    return asked


def _choose(
    asked: _Asked,
    found: Mapping[ImageId, StoredPicture],
    open_shards: Mapping[int, int],
    store: Store,
) -> list[StoredPicture]:
    mine = [found[place] for place in sorted(found) if place[0] == asked.row_index]
    exact = [each for each in mine if asked.image_index in (None, each.row.image_index)]
    if exact:
        return exact
    if mine:
        span = f"{mine[0].key} to {mine[-1].key}"
        raise InputError(f"key {asked.text!r}: is not here; row {asked.row_index} has {span}")
    if asked.row_index in open_shards:
        shard = open_shards[asked.row_index]
        raise InputError(
            f"key {asked.text!r}: is planned and not drawn yet (shard {shard} of {store.url} is "
            "not committed): finish the run by its own command"
        )
    raise DamagedError(store.url, f"row {asked.row_index} is in no file of its shard")


def _read(store: Store, record: CommitRecord, rows: set[int]) -> Iterator[StoredPicture]:
    """The pictures of some rows of one shard, drawn and failed."""
    result = record.result
    places, columns = _rows_of(store, result.metadata, rows, ("key", "format", *REQUEST, *DRAWN))
    pictures = _pictures(store, result.data, places, columns) if columns else {}
    for row in columns:
        if pictures.get(row["key"]) is None:
            reason = f"picture {row['key']} is not where metadata has it"
            raise DamagedError(store.join(result.data.key), reason)
        yield _stored(row, DRAWN, pictures[row["key"]], RowStatus.SUCCESS)
    if result.errors_file is not None:
        _, columns = _rows_of(store, result.errors_file, rows, ("key", *REQUEST, *FAILED))
        for row in columns:
            yield _stored(row, FAILED, None, RowStatus.FAILED)
    if result.filtered_file is not None:
        drawn = ("key", *REQUEST, *DRAWN, "image.bytes")
        _, columns = _rows_of(store, result.filtered_file, rows, drawn)
        for row in columns:
            yield _stored(row, DRAWN, row["image"]["bytes"], RowStatus.FILTERED)


def _rows_of(
    store: Store, file: DataFile, rows: set[int], columns: Sequence[str]
) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Places of some manifest rows in a file, and their columns."""
    try:
        with store.open(file.key) as source, pq.ParquetFile(source, pre_buffer=False) as table:
            index = table.read(["row_index"], use_threads=False)["row_index"].to_numpy()
            places = np.flatnonzero(np.isin(index, sorted(rows)))
            return places, _take(table, places, columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DamagedError(store.join(file.key), f"cannot be read ({error})") from error


def _pictures(
    store: Store,
    file: DataFile,
    places: NDArray[np.int64],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, bytes | None]:
    """Key to encoded picture, whatever the layout."""
    if layout_of(file.key) == PARQUET:
        return {**_pictures_at(store, file, places)}
    found = pictures_of(store, file.key, list(wanted(rows)))
    return dict(zip((row["key"] for row in rows), found, strict=True))


def _pictures_at(store: Store, file: DataFile, places: NDArray[np.int64]) -> dict[str, bytes]:
    """Key to encoded picture; `data/` has its rows in the order of `metadata/`."""
    try:
        with store.open(file.key) as source, pq.ParquetFile(source, pre_buffer=False) as table:
            rows = _take(table, places, ("key", "image.bytes"))
        return {row["key"]: row["image"]["bytes"] for row in rows}
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise DamagedError(store.join(file.key), f"cannot be read ({error})") from error


def _take(
    table: pq.ParquetFile, places: NDArray[np.int64], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows at some places of a file: only the row groups that hold them are read."""
    taken: list[dict[str, Any]] = []
    first = 0
    for group in range(table.num_row_groups):
        end = first + table.metadata.row_group(group).num_rows
        inside = places[(places >= first) & (places < end)] - first
        if len(inside):
            read = table.read_row_group(group, list(columns), use_threads=False)
            taken += read.take(pa.array(inside)).to_pylist()
        first = end
    return taken


def _stored(
    row: Mapping[str, Any], facts: Sequence[str], data: bytes | None, status: RowStatus
) -> StoredPicture:
    # Datasets from before there was a choice, or of models that have none, have no such column.
    request = {"prompt_syntax": PLAIN, "true_cfg_scale": None, **row}
    request["micro_conditioning"] = row.get("micro_conditioning") or ""
    request = {name: request[name] for name in REQUEST}
    request["width_px"], request["height_px"] = request.pop("width"), request.pop("height")
    known = {name: row[name] for name in facts}
    return StoredPicture(row["key"], RenderRow(**request), known, data, status)

"""What the columns and files of a run's dataset will be: decided, and refused, at plan time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sdbatch.dataset.files import FOLDER_ENTRIES, demand_plain_names
from sdbatch.dataset.layouts import FILES, PARQUET
from sdbatch.dataset.schema import dataset_schema
from sdbatch.errors import InputError, JobError
from sdbatch.job import nearest
from sdbatch.manifest.reader import Manifest, iter_tables
from sdbatch.plan.settings import Resolved

MAX_CLASSES = 10_000
FOLDER_PICTURES = ("png", "jpeg", "webp")
"""Endings by which `datasets` knows that a folder holds pictures."""


def output_schema(
    manifest: Manifest,
    user: Sequence[str],
    resolved: Resolved,
    storage: Mapping[str, Any] | None = None,
    scores: Sequence[str] = (),
) -> pa.Schema:
    """The schema of `data/` for these settings.

    Args:
        manifest: What is drawn.
        user: Its columns that pass through.
        resolved: The settings.
        storage: Options of the manifest's store.
        scores: Columns that models add.

    Raises:
        InputError: A column has a name or type that no reader takes, or too many classes.
        JobError: Settings contradict one another.
    """
    _demand_consistent(resolved)
    fields = [manifest.schema.field(name) for name in user]
    if resolved.value("format") == FILES:
        demand_plain_names(fields)
    column = resolved.value("class_label")
    labels = {column: class_values(manifest, user, column, storage)} if column else {}
    told = [
        resolved.value(f"defaults.{name}") is not None
        for name in ("true_cfg_scale", "micro_conditioning")
    ]
    return dataset_schema(fields, scores, resolved.value("caption_column"), labels, *told)


def max_images(resolved: Resolved) -> int | None:
    """Pictures that a shard may hold; None for any number."""
    if resolved.value("format") != FILES:
        return None
    return (FOLDER_ENTRIES - 2) // files_per_image(resolved)


def files_per_image(resolved: Resolved) -> int:
    """Files of its own that each picture has."""
    if resolved.value("format") != FILES:
        return 0
    return 2 if resolved.value("captions") else 1


def class_values(
    manifest: Manifest,
    user: Sequence[str],
    column: str,
    storage: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Names of the classes of a column, in the order of their numbers.

    Texts are numbered in their order; whole numbers from 0 keep their value.

    Raises:
        InputError: There is no such column, or its values are no classes.
    """
    where = f"--class-label {column}"
    if column not in user:
        raise InputError(
            f"{where}: no column of the manifest passes through under this name"
            f"{nearest(column, list(user))}"
        )
    kind = manifest.schema.field(column).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not text and not pa.types.is_integer(kind):
        raise InputError(f"{where}: holds {kind}, classes are texts or whole numbers")
    found = _distinct(manifest, column, storage, where)
    if text:
        return tuple(sorted(map(str, found)))
    if found and not 0 <= min(found) <= max(found) < MAX_CLASSES:
        raise InputError(
            f"{where}: holds {min(found):,} to {max(found):,}, numbers of classes lie in "
            f"0 to {MAX_CLASSES - 1:,}: give the classes as texts"
        )
    return tuple(str(number) for number in range(max(found, default=-1) + 1))


def _distinct(
    manifest: Manifest, column: str, storage: Mapping[str, Any] | None, where: str
) -> set[Any]:
    found: set[Any] = set()
    for table in iter_tables(manifest.ref, [column], storage=storage):
        found.update(pc.unique(table[column]).to_pylist())
        if len(found) > MAX_CLASSES + 1:
            raise InputError(f"{where}: holds more than {MAX_CLASSES:,} different values")
    return found - {None}


def _demand_consistent(resolved: Resolved) -> None:
    if resolved.value("captions") and resolved.value("format") == PARQUET:
        raise JobError(
            "captions: a Parquet dataset has no files beside its pictures, take --format "
            "webdataset or files, or --caption-column text"
        )
    picture = resolved.value("image.format")
    if resolved.value("format") == FILES and picture not in FOLDER_PICTURES:
        raise JobError(
            f"image.format: readers of a folder of pictures do not know {picture}, take "
            f"{', '.join(FOLDER_PICTURES)}, or --format parquet"
        )

"""Prompts out of a dataset of the Hugging Face hub, where `datasets` is installed.

`hf:owner/name` reads the split `train`, `hf:owner/name:test` another one. The rows are
streamed and frozen like any other manifest, so a dataset that changes later changes nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sdbatch.errors import ManifestError
from sdbatch.manifest.freeze import content_identity, write_tables

BATCH_ROWS = 8192
_ID = re.compile(r"hf:(?!//)(?P<id>[\w.-]+(?:/[\w.-]+)?)(?::(?P<split>[\w.]+))?")


def is_dataset_id(url: str) -> bool:
    """Whether a manifest's name is a dataset of the hub."""
    return url.startswith("hf:") and not url.startswith("hf://")


def freeze_dataset(url: str, path: Path) -> str:
    """Write a dataset of the hub to a local Parquet file and return the hash of its rows.

    Args:
        url: `hf:owner/name[:split]`.
        path: The Parquet file; it is overwritten.

    Raises:
        ManifestError: It is not there, cannot be reached, or has no rows.
        StorageError: The disk is full.
    """
    found = _ID.fullmatch(url)
    if found is None:
        raise ManifestError(
            url, -1, "", "", "is no dataset, write hf:owner/name or hf:owner/name:split"
        )
    batches = _batches(url, found["id"], found["split"] or "train")
    first = next(batches, None)
    if first is None:
        raise ManifestError(url, -1, "", "", "holds no rows, a manifest needs at least one")
    digest = hashlib.sha256()

    def counted() -> Iterator[pa.Table]:
        batch: pa.Table | None = first
        while batch is not None:
            digest.update(content_identity(batch).encode())
            yield batch.cast(first.schema)
            batch = next(batches, None)

    write_tables(first.schema, counted(), path)
    return digest.hexdigest()


def _batches(url: str, name: str, split: str) -> Iterator[pa.Table]:
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        reason = "needs the package datasets: pip install datasets"
        raise ManifestError(url, -1, "", "", reason) from error
    try:
        dataset: Any = datasets.load_dataset(name, split=split, streaming=True)
        for batch in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
            yield batch.replace_schema_metadata()
    except Exception as error:  # the hub's clients share no base class
        said = " ".join(str(error).split())[:200]
        reason = f"cannot be read from the hub: {type(error).__name__}: {said}"
        raise ManifestError(url, -1, "", "", reason) from error

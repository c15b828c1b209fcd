"""A dataset as one of Hugging Face `datasets`, whatever its layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sdbatch.audit.pictures import committed_rows
from sdbatch.dataset.schema import schema_from_bytes
from sdbatch.errors import InputError
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store, open_store

if TYPE_CHECKING:
    import datasets


def to_hf(store: Store, runs: Sequence[str]) -> datasets.Dataset:
    """All committed pictures, copied into the cache of `datasets` with the types of the plan.

    Args:
        runs: Names of runs, in the order wanted.

    Raises:
        InputError: `datasets` is not installed, or there is no run.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError("to_hf: needs the package 'datasets', pip install datasets") from error
    job = RunFolder(store, runs[0]).read_job()
    if job is None:
        raise InputError(f"{store.url}: holds no run, name the output of sdbatch render")
    schema = schema_from_bytes(store.get(job["schema_key"]))
    features = datasets.Features.from_arrow_schema(schema)
    # The cache knows an entry by what its generator is told: by each shard that stands, too.
    told = {"url": store.url, "runs": tuple(runs), "standing": _standing(store, runs)}
    return datasets.Dataset.from_generator(_rows, features=features, gen_kwargs=told)


def _standing(store: Store, runs: Sequence[str]) -> str:
    """A hash over which attempt stands for every shard."""
    digest = hashlib.sha256()
    for run in runs:
        for record in RunFolder(store, run).records():
            digest.update(f"{run} {record.result.data.key} {record.result.data.sha256}\n".encode())
    return digest.hexdigest()


def _rows(url: str, runs: Sequence[str], standing: str) -> Iterator[dict[str, Any]]:  # noqa: ARG001
    store = open_store(url)
    for run in runs:
        for batch in committed_rows(store, run, pictures=True):
            yield from pa.table(batch).to_pylist()

"""The pictures of a committed shard, wherever its layout keeps them.

`metadata/` has the rows of every layout; this module brings the picture to each row. Rows and
pictures stand in the same order in all of them, so both are read forward once, and memory
holds one row group of a Parquet file, or a few pictures of the other layouts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.files import read_index
from sdbatch.dataset.layouts import FILES, PARQUET, WEBDATASET
from sdbatch.dataset.row_groups import picture_name
from sdbatch.dataset.schema import IMAGE
from sdbatch.dataset.webdataset import TEXT, Sample, read_samples, sample_name
from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.store import Store

THREADS = 8
AHEAD = 2 * THREADS
READ_ROWS = 64
FEW = 256
"""So many pictures are looked for by name, and the others passed over unread."""

T = TypeVar("T")


class Wanted(NamedTuple):
    """A picture by its key and format, as columns of its row."""

    key: str
    format: str


def layout_of(key: str) -> str:
    """The layout of a shard, from the key of its data file."""
    if key.startswith(f"{layout.PICTURES}/"):
        return FILES
    return WEBDATASET if key.endswith(".tar") else PARQUET


def wanted(rows: Iterable[Mapping[str, Any]]) -> Iterator[Wanted]:
    """What to look for, from rows with `key` and `format`."""
    return (Wanted(row["key"], row["format"]) for row in rows)


def loose_files_of(store: Store, data: DataFile) -> list[DataFile]:
    """What the index of a shard of loose pictures names; nothing in other layouts.

    Raises:
        ObjectNotFoundError: There is no index.
        DamagedError: It cannot be read.
    """
    if layout_of(data.key) != FILES:
        return []
    folder = data.key.removesuffix(layout.INDEX_NAME)
    with store.open(data.key) as source:
        named = list(read_index(source, store.join(data.key)))
    return [DataFile(f"{folder}{one.name}", 1, one.size_bytes, one.sha256) for one in named]


def picture_names(store: Store, key: str) -> list[str]:
    """What pictures a data file of a tar or of loose pictures holds, by the keys of their rows.

    Raises:
        ObjectNotFoundError: There is no such file.
        DamagedError: It cannot be read.
    """
    with store.open(key) as source:
        if layout_of(key) == FILES:
            files = read_index(source, store.join(key))
            names = (one.name.rpartition(".") for one in files)
            return [stem for stem, _, ending in names if ending != TEXT]
        return [sample.name for sample in read_samples(source, store.join(key))]


def pictures_of(store: Store, key: str, rows: Iterable[Wanted]) -> Iterator[bytes | None]:
    """The picture of each row of a shard, None for one that is not there.

    Args:
        store: The output.
        key: Of the shard's data file.
        rows: Some of its rows, in their order.

    Raises:
        DamagedError: The data file cannot be read; what came before was yielded.
        ObjectNotFoundError: There is no data file.
    """
    form = layout_of(key)
    if form == FILES:
        yield from _loose(store, key, rows)
    elif form == WEBDATASET:
        with store.open(key) as source:
            few = frozenset(sample_name(row.key) for row in rows) if _is_few(rows) else None
            samples = read_samples(source, store.join(key), few)
            pictures = ((sample.name, sample.data) for sample in samples)
            yield from in_step(pictures, (sample_name(row.key) for row in rows))
    else:
        yield from in_step(_parquet(store, key), (row.key for row in rows))


def sampled_pictures(path: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes | None]:
    """The picture of each row out of a local copy of a tar, up to where that cannot be read."""
    with path.open("rb") as source:
        samples = _up_to_damage(read_samples(source, path.name))
        pictures = ((sample.name, sample.data) for sample in samples)
        yield from in_step(pictures, (sample_name(row["key"]) for row in rows))


def _up_to_damage(samples: Iterator[Sample]) -> Iterator[Sample]:
    with suppress(DamagedError):
        yield from samples


def in_step(pictures: Iterator[tuple[str, T]], names: Iterable[str]) -> Iterator[T | None]:
    """What goes with some names, out of pairs in the order of all; None for what is not there.

    Both are read forward once.
    """
    found = next(pictures, None)
    for name in names:
        while found is not None and _order(found[0]) < _order(name):
            found = next(pictures, None)
        yield found[1] if found is not None and found[0] == name else None


def _order(name: str) -> tuple[int, str]:
    # Row numbers beyond nine digits make longer names.
    return len(name), name


def _is_few(rows: Iterable[Wanted]) -> TypeGuard[Sequence[Wanted]]:
    return isinstance(rows, Sequence) and len(rows) <= FEW


def _parquet(store: Store, key: str) -> Iterator[tuple[str, bytes]]:
    columns = ["key", f"{IMAGE.name}.bytes"]
    try:
        with store.open(key) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            for group in range(file.num_row_groups):
                batches = file.iter_batches(READ_ROWS, [group], columns, use_threads=False)
                for row in (row for batch in batches for row in batch.to_pylist()):
                    yield row["key"], row[IMAGE.name]["bytes"]
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise DamagedError(store.join(key), f"cannot be read ({error})") from error


def _loose(store: Store, key: str, rows: Iterable[Wanted]) -> Iterator[bytes | None]:
    folder = key.removesuffix(layout.INDEX_NAME)

    def fetch(row: Wanted) -> bytes | None:
        try:
            return store.get(f"{folder}{picture_name(row.key, row.format)}")
        except ObjectNotFoundError:
            return None

    waiting: deque[Future[bytes | None]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="pictures") as pool:
        try:
            for row in rows:
                waiting.append(pool.submit(fetch, row))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # whoever stops early waits for no more than what is under way
            pool.shutdown(cancel_futures=True)

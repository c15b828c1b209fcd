"""Removes what an earlier call left at DEST without a record, and what no longer counts.

Runs under the lease, before a call decides what it writes. Only names that an export gives are
touched: data files by their pattern, single pictures by the lists that were stored before the
first of them was written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.errors import DamagedError, ObjectNotFoundError
from sdbatch.storage.named_key import NamedKey
from sdbatch.storage.store import Store
from sdbatch.transfer.ledger import Ledger, OutputFile
from sdbatch.transfer.outputs import FILE_NAME, caption_name

_FOLDERS = ("data/", "metadata/")
OURS = re.compile(r"(?:data|metadata)/[A-Za-z0-9_]+-\d{5}-of-\d{5}-[0-9a-f]{8}\.(?:parquet|tar)")
"""Keys of data files that an export names."""

_BATCH_ROWS = 4096


def tidy(store: Store, ledger: Ledger, guard: Callable[[], None]) -> None:
    """Remove retired files and leftovers; may be repeated, and die anywhere.

    Args:
        guard: Raises when another export has taken over.
    """
    files, retired = ledger.files(), ledger.retired()
    live = [file for file in files if file.number not in retired]
    kept = {key for file in live for key in file.keys}
    standing = set(ledger.rows_objects())
    guard()
    for file in files:
        # The list goes last: a call that dies here finds it again.
        if file.number in retired and file.data is None and file.rows.key in standing:
            _remove(store, file_names(store, file.rows.key), guard)
            store.delete(file.rows.key)
    if intents := ledger.intents():
        owned = {name for file in live for name in file_names(store, file.rows.key)}
        for key in intents:
            names = (name for name in file_names(store, key) if name not in owned)
            _remove(store, names, guard)
            store.delete(key)
    lost = [key for key in standing if key not in kept]
    lost += [
        info.key
        for info in store.list_many(_FOLDERS)
        if info.key not in kept and OURS.fullmatch(info.key)
    ]
    for key in lost:
        store.delete(key)


def file_names(store: Store, key: str) -> Iterator[str]:
    """Names of pictures in a stored list; none when it is gone."""
    for batch in read_rows(store, key, [FILE_NAME.name]):
        yield from batch.column(0).to_pylist()


def read_rows(store: Store, key: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Rows of a stored list, a batch at a time; none when it is gone.

    Raises:
        DamagedError: It cannot be read.
    """
    try:
        source = store.open(key)
    except ObjectNotFoundError:
        return
    try:
        with source, pq.ParquetFile(source, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                yield batch.select(columns)
    except (pa.ArrowException, io.UnsupportedOperation, KeyError) as error:
        raise DamagedError(store.join(key), f"cannot be read ({error})") from error


def live_files(files: Iterable[OutputFile], retired: Iterable[int]) -> list[OutputFile]:
    """Files that count, in the order of their splits."""
    gone = set(retired)
    live = (file for file in files if file.number not in gone)
    return sorted(live, key=lambda file: (file.split, file.place))


def _remove(store: Store, names: Iterable[str], guard: Callable[[], None]) -> None:
    for name in names:
        guard()
        store.delete(NamedKey(name))
        store.delete(NamedKey(caption_name(name)))

"""Which kind of manifest a name stands for, and text of any kind made into Parquet once.

Parquet is read where it lies. Everything else is streamed through a temporary folder into one
deterministic Parquet file, which is what is checked and what workers read. Messages go on
naming the file and line that a person can look at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from sdbatch.errors import ManifestError
from sdbatch.manifest.fault_log import FaultLog
from sdbatch.manifest.faults import Faults
from sdbatch.manifest.freeze import write_tables
from sdbatch.manifest.gather import Gathering
from sdbatch.manifest.origin import Origin
from sdbatch.manifest.reader import Storage
from sdbatch.manifest.text_rows import (
    TextBatch,
    array_batches,
    encloses_values,
    object_batches,
    prompt_batches,
    table_batches,
)
from sdbatch.manifest.text_stream import open_text
from sdbatch.remote import file_system

PARQUET, TEXT = "parquet", "txt"
KINDS = {
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".txt": TEXT,
}
"""Ending of a file name to what is in it."""
COMPRESSIONS = {".gz": "gz", ".zst": "zst"}
FREEZE_FORM = 1
"""Counted up when the same text would become other rows."""

Batches = Callable[[Iterable[str], str], Iterator[TextBatch]]


def kind_of(path: str) -> tuple[str, str]:
    """(kind, compression) of a file by its name; empty where the name does not say."""
    name = PurePosixPath(path.replace(os.sep, "/")).name.lower()
    stem, dot, ending = name.rpartition(".")
    compression = COMPRESSIONS.get(dot + ending, "") if stem else ""
    if compression:
        stem, dot, ending = stem.rpartition(".")
    return (KINDS.get(dot + ending, "") if stem else ""), compression


def find_files(url: str, storage: Storage) -> tuple[str, list[str]]:
    """The kind of a manifest and its files in name order.

    In a folder, texts that lie beside tables (a licence, notes) are no part of the manifest.

    Args:
        url: Path or fsspec URL of a file, a folder or a glob.
        storage: fsspec options of its file system.

    Raises:
        ManifestError: Nothing is there, or tables of several kinds.
    """
    fs, path = file_system(url, storage, shared=True)
    is_glob = any(sign in path for sign in "*?[") and not fs.exists(path)
    if is_glob:
        names = [name for name in fs.glob(path) if fs.isfile(name)]
    elif fs.isdir(path):
        names = [one["name"] for one in fs.ls(path, detail=True) if one["type"] == "file"]
    else:
        return kind_of(path)[0], [url]
    by_kind: dict[str, list[str]] = {}
    for name in sorted(names):
        kind = kind_of(name)[0]
        if kind and PurePosixPath(name).name[0] not in "._":
            by_kind.setdefault(kind, []).append(name)
    tables = {kind: found for kind, found in by_kind.items() if kind not in (TEXT, "json")}
    chosen = tables or by_kind
    if len(chosen) > 1:
        some = " and ".join(PurePosixPath(found[0]).name for found in chosen.values())
        reason = f"holds files of several kinds, such as {some}: name one kind, {url}/*.csv say"
        raise ManifestError(url, -1, "", "", reason)
    if not chosen:
        raise ManifestError(url, -1, "", "", f"holds no {_endings()} files")
    kind, found = next(iter(chosen.items()))
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    return kind, [os.path.abspath(one) if local else fs.unstrip_protocol(one) for one in found]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A manifest of texts, written to Parquet.

    Attributes:
        identity: Hash over the names and the bytes of its files.
        origin: Where each row comes from.
        unread: Cells that are not what their column holds; None where there are none.
    """

    identity: str
    origin: Origin
    unread: Path | None


def freeze_text(
    url: str, kind: str, files: list[str], path: Path, folder: Path, storage: Storage
) -> Frozen:
    """Write a manifest of texts to a local Parquet file: the same bytes give the same file.

    Args:
        url: The manifest as messages name it.
        kind: One of the values of `KINDS` but Parquet.
        files: Its files, in order.
        path: The Parquet file; it is overwritten.
        folder: An empty folder for what rests on the way, as large as the manifest.
        storage: fsspec options of its file system.

    Raises:
        ManifestError: A file is no such text. A value that cannot be what its column holds
            is left out, and noted.
        StorageError: A store or the disk failed.
    """
    rows = Gathering(url, folder, from_cells=kind in ("csv", "tsv"))
    starts, facts = [], []
    header: list[str] | None = None
    for file in files:
        starts.append(rows.num_rows)
        read = _reader(kind, file, storage)
        with open_text(file, kind_of(file)[1], storage) as stream:
            for batch in read(stream, file):
                if rows.from_cells:
                    header = header or list(batch.columns)
                    _demand_header(url, files[0], header, file, list(batch.columns))
                rows.add(batch)
            facts.append([_base_name(file), stream.size, stream.digest.hexdigest()])
    if not rows.num_rows:
        raise ManifestError(url, -1, "", "", "holds no rows, a manifest needs at least one")
    if not rows.names:
        raise ManifestError(url, -1, "", "", 'holds empty rows only, write {"prompt": "a fox"}')
    origin = Origin(tuple(files), tuple(starts), rows.line)
    unread = path.with_suffix(".unread")
    with FaultLog(unread) as log:
        faults = Faults(url, log)
        write_tables(rows.schema(), rows.tables(faults), path)
    text = json.dumps(["text", FREEZE_FORM, *facts]).encode()
    return Frozen(hashlib.sha256(text).hexdigest(), origin, unread if faults.total else None)


def _reader(kind: str, file: str, storage: Storage) -> Batches:
    if kind == "csv":
        return table_batches
    if kind == "tsv":
        with open_text(file, kind_of(file)[1], storage) as stream:
            quoted = encloses_values(stream)
        return partial(table_batches, delimiter="\t", quoted=quoted)
    return {"jsonl": object_batches, "json": array_batches, TEXT: prompt_batches}[kind]


def _demand_header(url: str, first: str, header: list[str], file: str, names: list[str]) -> None:
    differing = [name for name in (*header, *names) if (name in header) != (name in names)]
    if differing:
        where = (file, first) if differing[0] in header else (first, file)
        reason = f"missing in {where[0]} but not in {where[1]}, all files need the same columns"
        raise ManifestError(url, -1, differing[0], "", reason)


def _base_name(url: str) -> str:
    return PurePosixPath(url.replace(os.sep, "/")).name


def _endings() -> str:
    return ".parquet, .csv, .tsv, .jsonl, .json or .txt"

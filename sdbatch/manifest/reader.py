"""Prompts in: Parquet from a path or any fsspec URL, a file, a folder or a glob.

Opening reads footers only, so a manifest of any length opens at once. Rows are read later,
by whoever needs them, and always against the footer that stood when the plan was made:
a file that changed meanwhile is refused instead of being read as something else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.credentials import check_url, redact
from sdbatch.errors import ManifestError, SdbatchError, StorageError, StoreAccessError
from sdbatch.manifest.origin import Origin
from sdbatch.manifest.view import shown_table, stored_columns
from sdbatch.records import ManifestFile, ManifestRef
from sdbatch.remote import file_system, is_url

TAIL_BYTES = 65536
"""Read from the end at first: holds nearly every footer, so one request does."""
BUFFER_BYTES = 1 << 20
ACCESS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "RefreshError")
MISUSED = ("ParamValidationError", "NoRegionError", "InvalidRegionError")
"""Errors of clients that are no `OSError`, by name: who must act is somebody else than a retry."""
NOT_PARQUET = (
    "not a Parquet file; other kinds are known by their names: .csv, .tsv, .jsonl, .json, .txt, "
    "each also with .gz or .zst"
)
Storage = Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """An opened manifest.

    Attributes:
        ref: Its files and identity: what plans and leases carry.
        schema: Arrow schema of its rows, without metadata.
        max_row_group_rows: Rows of its largest row group; workers read groups whole.
        file_schema: Arrow schema of all files; None where rows show it as it is.
        origin: Where rows were before they were frozen; None where they lie in these files.
        unread: Cells that freezing could not read (`manifest/unread.py`), as a `FaultLog`
            wrote them; None where there are none. Rows show them empty.
    """

    ref: ManifestRef
    schema: pa.Schema
    max_row_group_rows: int
    file_schema: pa.Schema | None = None
    origin: Origin | None = None
    unread: Path | None = None


def open_manifest(url: str, storage: Storage = None) -> Manifest:
    """Open a manifest by its footers.

    Args:
        url: A path or fsspec URL of a Parquet file, a folder of them, or a glob.
        storage: fsspec options of the URL's file system, secrets as `env:NAME`.

    Raises:
        ManifestError: Nothing is there, it is not Parquet, it has no rows, or its files
            differ in their columns.
        StorageError: The store cannot be reached.
    """
    check_url(url, "manifest")
    with readable(url):
        paths = _expand(url, storage)
        labels = [url] if len(paths) == 1 else paths
        opened = [
            _open_file(path, label, storage) for path, label in zip(paths, labels, strict=True)
        ]
    schema = opened[0][1]
    for path, (_, other, _) in zip(paths, opened, strict=True):
        _demand_same(url, paths[0], schema, path, other)
    files = tuple(file for file, _, _ in opened)
    ref = ManifestRef(url, files, _identity(files))
    if ref.num_rows == 0:
        raise ManifestError(url, -1, "", "", "holds no rows, a manifest needs at least one")
    return Manifest(ref, schema, max(rows for _, _, rows in opened))


def read_rows(
    ref: ManifestRef,
    first: int,
    end: int,
    columns: Sequence[str] | None = None,
    storage: Storage = None,
    *,
    lenient: bool = False,
) -> pa.Table:
    """Rows `[first, end)` of a manifest; only the row groups they lie in are read.

    Columns come in the order asked for; None reads all of them. `lenient` shows a value that
    has no parts as null instead of refusing it, for rows that a check has judged.

    Raises:
        ManifestError: A file is gone, damaged, or not the one the plan was made from.
        StorageError: The store cannot be reached.
    """
    pieces = []
    start = 0
    stored = stored_columns(ref.view, columns)
    for file in ref.files:
        low, high = max(first - start, 0), min(end - start, file.num_rows)
        if low < high:
            with readable(ref.name), _checked(file, ref.name, storage) as (source, footer):
                pieces.append(_read_slice(source, footer, low, high, stored))
                _demand_rows(ref.name, high - low, pieces[-1].num_rows)
        start += file.num_rows
    if not pieces:
        raise ManifestError(ref.name, first, "", "", f"the manifest has {ref.num_rows} rows")
    names = pieces[0].column_names if stored is None else stored
    whole = pa.concat_tables([piece.select(names) for piece in pieces])
    return shown_table(ref, whole.replace_schema_metadata(), columns, first, lenient=lenient)


def demand_unchanged(
    ref: ManifestRef, windows: Collection[tuple[int, int]], storage: Storage = None
) -> None:
    """Pass when every file with a row in one of these windows is as the plan found it.

    Only footers are read, so a long manifest is as quick as a short one.

    Raises:
        ManifestError: A file is gone, damaged, or not the one the plan was made from.
        StorageError: The store cannot be reached.
    """
    start = 0
    for file in ref.files:
        end = start + file.num_rows
        if any(first < end and start < last for first, last in windows):
            with readable(ref.name), _checked(file, ref.name, storage):
                pass
        start = end


def iter_tables(
    ref: ManifestRef,
    columns: Sequence[str] | None = None,
    batch_rows: int = 65536,
    storage: Storage = None,
    *,
    lenient: bool = False,
) -> Iterator[pa.Table]:
    """All rows in order, in tables of at most `batch_rows`; memory stays bounded.

    `lenient` as for `read_rows`.

    Raises:
        ManifestError: A file is gone, damaged, or not the one the plan was made from.
        StorageError: The store cannot be reached.
    """
    names = stored_columns(ref.view, columns)
    first_row = end = 0
    for file in ref.files:
        end += file.num_rows
        with readable(ref.name), _checked(file, ref.name, storage) as (source, footer):
            reader = pq.ParquetFile(
                source, metadata=footer, buffer_size=BUFFER_BYTES, pre_buffer=False
            )
            for batch in reader.iter_batches(batch_rows, columns=names, use_threads=False):
                names = names or batch.schema.names
                table = pa.table(batch).select(names).replace_schema_metadata()
                yield shown_table(ref, table, columns, first_row, lenient=lenient)
                first_row += batch.num_rows
            _demand_rows(ref.name, file.num_rows, file.num_rows - end + first_row)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Translate what stores and Arrow raise into errors that name the manifest."""
    try:
        yield
    except FileNotFoundError as error:
        raise ManifestError(name, -1, "", "", "no such file or folder") from error
    except PermissionError as error:
        raise ManifestError(name, -1, "", "", "may not be read, check its permissions") from error
    except ImportError as error:
        raise ManifestError(name, -1, "", "", f"cannot be reached: {error}") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError) as error:
        raise ManifestError(name, -1, "", "", f"damaged Parquet: {_line(error)}") from error
    except ValueError as error:
        raise ManifestError(name, -1, "", "", f"cannot be read: {_line(error)}") from error
    except OSError as error:
        # Arrow reports a torn page as a plain OSError without an error number.
        if error.errno is None:
            raise ManifestError(name, -1, "", "", f"damaged Parquet: {_line(error)}") from error
        raise StorageError(f"{name}: cannot be read: {_line(error)}") from error
    except Exception as error:
        if isinstance(error, SdbatchError) or type(error).__module__ == "builtins":
            raise
        # Clients of stores raise classes of their own.
        kind = type(error).__name__
        said = f"{name}: cannot be read: {kind}: {_line(error)}"
        if kind in ACCESS:
            raise StoreAccessError(said) from error
        if kind in MISUSED:
            raise ManifestError(name, -1, "", "", f"cannot be read: {_line(error)}") from error
        raise StorageError(said) from error


def _line(error: Exception) -> str:
    return redact(" ".join(str(error).split()))


def _expand(url: str, storage: Storage) -> list[str]:
    """URLs of the files a name stands for, sorted; local ones as absolute paths."""
    if "::" in url:
        raise ManifestError(url, -1, "", "", "chained URLs are not read, name the file itself")
    fs, path = file_system(url, storage, shared=True)
    if any(sign in path for sign in "*?[") and not fs.exists(path):
        found = [name for name in fs.glob(path) if fs.isfile(name)]
    elif fs.isdir(path):
        found = [entry["name"] for entry in fs.ls(path, detail=True) if _is_parquet(entry)]
    else:
        found = [path]
    if not found:
        raise ManifestError(url, -1, "", "", "holds no .parquet files")
    local = "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))
    return [os.path.abspath(name) if local else fs.unstrip_protocol(name) for name in sorted(found)]


def _is_parquet(entry: Mapping[str, Any]) -> bool:
    name = PurePosixPath(entry["name"]).name
    return entry["type"] == "file" and name.endswith((".parquet", ".pq")) and name[0] not in "._"


@contextmanager
def _opened(url: str, storage: Storage) -> Iterator[tuple[pa.NativeFile, int, str]]:
    """An open file, its size and its tag."""
    if not is_url(url):
        with pa.OSFile(url) as source:
            yield source, source.size(), ""
        return
    fs, path = file_system(url, storage, shared=True)
    info = fs.info(path)
    tag = str(info.get("ETag") or info.get("etag") or "").strip('"')
    with fs.open(path, "rb") as raw, pa.PythonFile(raw, mode="r") as source:
        yield source, int(info["size"]), tag


def _open_file(url: str, name: str, storage: Storage) -> tuple[ManifestFile, pa.Schema, int]:
    """The facts of a file that messages call `name`, its schema, its largest row group."""
    with _opened(url, storage) as (source, size, tag):
        tail = _footer_bytes(source, size, name)
    footer = _parse(tail)
    groups = [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
    file = ManifestFile(url, footer.num_rows, size, hashlib.sha256(tail).hexdigest(), tag)
    return file, footer.schema.to_arrow_schema().remove_metadata(), max(groups, default=0)


@contextmanager
def _checked(
    file: ManifestFile, name: str, storage: Storage
) -> Iterator[tuple[pa.NativeFile, pq.FileMetaData]]:
    """An open file that is still the one the plan was made from, and its footer."""
    with _opened(file.url, storage) as (source, size, tag):
        same = size == file.size_bytes and tag == file.etag
        tail = _footer_bytes(source, size, name) if same else b""
        if hashlib.sha256(tail).hexdigest() != file.footer_sha256:
            reason = f"{file.url} changed since the plan was made, put the old file back"
            raise ManifestError(name, -1, "", "", reason)
        yield source, _parse(tail)


def _footer_bytes(source: pa.NativeFile, size: int, name: str) -> bytes:
    """The footer with its length and closing mark, as they stand at the end of the file."""
    want = min(size, TAIL_BYTES)
    tail = source.read_at(want, size - want) if want else b""
    if len(tail) < 12 or tail[-4:] != b"PAR1":
        raise ManifestError(name, -1, "", "", NOT_PARQUET)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length > size - 4:
        raise ManifestError(name, -1, "", "", "damaged Parquet: the footer is cut off")
    return bytes(tail[-length:] if length <= want else source.read_at(length, size - length))


def _parse(tail: bytes) -> pq.FileMetaData:
    return pq.read_metadata(pa.BufferReader(b"PAR1" + tail))


def _read_slice(
    source: pa.NativeFile,
    footer: pq.FileMetaData,
    low: int,
    high: int,
    columns: Sequence[str] | None,
) -> pa.Table:
    wanted, start, skipped = [], 0, 0
    for index in range(footer.num_row_groups):
        rows = footer.row_group(index).num_rows
        if start + rows <= low:
            skipped = start + rows
        elif start < high:
            wanted.append(index)
        start += rows
    reader = pq.ParquetFile(source, metadata=footer, pre_buffer=False)
    names = None if columns is None else list(columns)
    table = reader.read_row_groups(wanted, columns=names, use_threads=False)
    return table.slice(low - skipped, high - low)


def _demand_rows(name: str, said: int, found: int) -> None:
    """Refuse a file that holds other rows than its footer says."""
    if found != said:
        reason = f"damaged Parquet: {found:,} rows where the footer says {said:,}"
        raise ManifestError(name, -1, "", "", reason)


def _demand_same(name: str, first: str, schema: pa.Schema, path: str, other: pa.Schema) -> None:
    """Refuse a file whose columns differ in name or type; their order may differ."""
    ours = {field.name: field.type for field in schema}
    theirs = {field.name: field.type for field in other}
    for column in [*ours, *theirs]:
        if ours.get(column) != theirs.get(column):
            was, now = ours.get(column, "missing"), theirs.get(column, "missing")
            reason = f"{now} in {path} but {was} in {first}, all files need the same columns"
            raise ManifestError(name, -1, column, "", reason)


def _identity(files: Sequence[ManifestFile]) -> str:
    """Hash over base names, sizes, footers and tags: a moved folder keeps it."""
    facts = []
    for file in files:
        name = PurePosixPath(file.url.replace(os.sep, "/")).name
        facts.append([name, file.size_bytes, file.footer_sha256, file.etag])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

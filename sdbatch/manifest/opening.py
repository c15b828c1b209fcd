"""The one way to open a manifest, whatever it is: read where it lies, or frozen to be read.

Rows come under canonical names (`manifest/view.py`). What had to be frozen lies in a folder
that the caller keeps for as long as rows are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from sdbatch.credentials import check_url
from sdbatch.manifest.formats import PARQUET, find_files, freeze_text
from sdbatch.manifest.freeze import content_identity, write_frozen
from sdbatch.manifest.hub_dataset import freeze_dataset, is_dataset_id
from sdbatch.manifest.reader import Manifest, Storage, open_manifest, readable
from sdbatch.manifest.unread import demand_read
from sdbatch.manifest.view import shown_schema, view_of

NewFolder = Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Shown:
    """How columns are shown that are not canonical.

    Attributes:
        keep_source_columns: Columns read under another name pass through as well.
        prefix: Begins the name of every column that passes through.
    """

    keep_source_columns: bool = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Opened:
    """A manifest that is ready to be read.

    Attributes:
        manifest: Its rows, under canonical names.
        frozen: The local Parquet file that was made of it; None where it is read in place.
    """

    manifest: Manifest
    frozen: Path | None


def open_any(
    url: str, new_folder: NewFolder, storage: Storage = None, shown: Shown | None = None
) -> Opened:
    """Open a manifest of any kind.

    Args:
        url: Path or fsspec URL of a file, a folder or a glob, or `hf:owner/name[:split]`.
        new_folder: Makes an empty folder that stays until nothing is read any more.
        storage: fsspec options of its file system.
        shown: How columns are shown; None for the usual way.

    Raises:
        ManifestError: Nothing is there, it is no manifest, or two columns claim one name.
        StorageError: A store or the disk failed.
    """
    if is_dataset_id(url):
        path = new_folder() / "manifest.parquet"
        identity = freeze_dataset(url, path)
        return _viewed(_frozen(path, url, identity), path, url, shown)
    check_url(url, "manifest")
    with readable(url):
        kind, files = ("", [url]) if "::" in url else find_files(url, storage)
    if kind in ("", PARQUET):
        return _viewed(open_manifest(url, storage), None, url, shown)
    folder = new_folder()
    path = folder / "manifest.parquet"
    resting = folder / "rows"
    resting.mkdir()
    made = freeze_text(url, kind, files, path, resting, storage)
    frozen = _frozen(path, url, made.identity)
    manifest = replace(frozen, origin=made.origin, unread=made.unread)
    return _viewed(manifest, path, url, shown)


@contextmanager
def reading(url: str, storage: Storage = None, *, unread: bool = False) -> Iterator[Manifest]:
    """A manifest of any kind for as long as this lasts, as `open_any` opens it.

    Raises:
        ManifestError: Besides, a value is not what its column holds, unless `unread` says that
            the caller reads the manifest's `unread` cells.
        ManifestRowsError: Several are not.
    """
    with TemporaryDirectory(prefix="sdbatch-manifest-") as folder:
        manifest = open_any(url, lambda: Path(folder), storage).manifest
        if not unread:
            demand_read(manifest)
        yield manifest


def open_table(
    table: pa.Table, name: str, new_folder: NewFolder, shown: Shown | None = None
) -> Opened:
    """Freeze rows in memory and open them.

    Raises:
        ManifestError: Two columns claim one name.
        StorageError: The disk is full.
    """
    path = new_folder() / "manifest.parquet"
    write_frozen(table, path)
    return _viewed(_frozen(path, name, content_identity(table)), path, name, shown)


def _frozen(path: Path, name: str, identity: str) -> Manifest:
    opened = open_manifest(str(path))
    return replace(opened, ref=replace(opened.ref, name=name, identity=identity))


def _viewed(manifest: Manifest, frozen: Path | None, name: str, shown: Shown | None) -> Opened:
    shown = shown or Shown()
    view = view_of(
        name,
        manifest.schema,
        keep_source_columns=shown.keep_source_columns,
        prefix=shown.prefix,
    )
    seen = replace(
        manifest,
        ref=replace(manifest.ref, view=view),
        schema=shown_schema(manifest.schema, view),
        file_schema=manifest.schema,
    )
    return Opened(seen, frozen)

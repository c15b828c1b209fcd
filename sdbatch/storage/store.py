"""Whole objects under one root: the only door to durable bytes.

A store knows keys and bytes and nothing of shards, records or pictures. Its verbs are few
because every one of them must behave alike on a laptop's disk and in a bucket:
an object is written whole or not at all, a listing is always fresh, and
`create_once` answers truthfully even when the reply to the write was lost.
Everything that is promised of a run rests on that one verb.
"""

from __future__ import annotations

import importlib
import os
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar

from sdbatch.credentials import check_options, check_url
from sdbatch.errors import CommitUnknownError, InputError, ObjectNotFoundError, StorageError
from sdbatch.remote import demand_client, scheme_of
from sdbatch.storage.named_key import NamedKey

STORES = {
    "": "sdbatch.storage.local_store:LocalStore",
    "file": "sdbatch.storage.local_store:LocalStore",
    "local": "sdbatch.storage.local_store:LocalStore",
    "memory": "sdbatch.storage.fsspec_store:MemoryStore",
    "s3": "sdbatch.storage.s3_store:S3Store",
    "s3a": "sdbatch.storage.s3_store:S3Store",
    "gs": "sdbatch.storage.gcs_store:GcsStore",
    "gcs": "sdbatch.storage.gcs_store:GcsStore",
    "az": "sdbatch.storage.azure_store:AzureStore",
    "abfs": "sdbatch.storage.azure_store:AzureStore",
    "abfss": "sdbatch.storage.azure_store:AzureStore",
}
"""URL scheme to `module:class`, imported when first asked for."""

SUPPORTED = "a local path, file://, memory://, s3://, gs://, az:// or abfs://"

_PART = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9_=.-]*")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows of an object without reading it.

    Attributes:
        tag: The store's own mark of this version of the bytes; changes when they do.
    """

    key: str
    size_bytes: int
    tag: str


class Store(ABC):
    """Objects under a root.

    Keys are relative paths of plain ASCII words, made by `layout.py` alone. Every method
    raises `StorageError` when the disk or bucket fails and `InputError` for a key that
    could leave the root.

    Attributes:
        url: Absolute path or URL of the root.
        options: What it was opened with; names of secrets, never secrets.
        private: Objects are seen by this process only.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    private: ClassVar[bool] = False
    create_attempts: ClassVar[int] = 5
    pause_s: ClassVar[float] = 0.05
    list_threads: ClassVar[int] = 16

    url: str

    @abstractmethod
    def get(self, key: str) -> bytes:
        """All bytes of an object.

        Raises:
            ObjectNotFoundError: There is none.
        """

    @abstractmethod
    def get_file(self, key: str, path: str | os.PathLike[str]) -> None:
        """Copy an object to a local file.

        Raises:
            ObjectNotFoundError: There is none.
            DamagedError: Fewer or more bytes arrived than the object holds.
        """

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write an object whole, replacing what stood there."""

    @abstractmethod
    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> ObjectInfo:
        """Store a closed local file; readers see all of it or nothing.

        Raises:
            DamagedError: The stored size differs from the file's.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """Size and tag of an object; None when there is none."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """A seekable reader of one object, for range reads; the caller closes it.

        Raises:
            ObjectNotFoundError: There is none.
        """

    @abstractmethod
    def join(self, key: str) -> str:
        """The path or URL under which other programs open an object."""

    @abstractmethod
    def _create_new(self, key: str, data: bytes) -> None:
        """Write an object only if none stands there, in one atomic step.

        Raises:
            FileExistsError: One stands there, possibly ours.
            CommitUnknownError: It may or may not have landed.
            StorageError: It surely did not land.
        """

    @abstractmethod
    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key begins with a checked prefix, in any order."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key begins with `prefix`, sorted by key, never from a cache.

        Unfinished writes of others are not shown.
        """
        check_prefix(prefix)
        return iter(sorted(self._walk(prefix), key=lambda info: info.key))

    def list_many(self, prefixes: Sequence[str]) -> Iterator[ObjectInfo]:
        """Every object below several prefixes, which are listed at the same time.

        Objects come prefix by prefix in the order given, sorted by key within each.
        """
        for prefix in prefixes:
            check_prefix(prefix)
        if len(prefixes) < 2:
            for prefix in prefixes:
                yield from self.list(prefix)
            return
        with ThreadPoolExecutor(min(self.list_threads, len(prefixes)), "list") as pool:
            for found in pool.map(lambda prefix: tuple(self.list(prefix)), prefixes):
                yield from found

    def exists_any(self, name: str = "") -> bool:
        """Whether an object is called `name`, or any lies in the folder of that name.

        What lies beside it is not looked at, however much that is.
        """
        check_prefix(name)
        if name and not name.endswith("/"):
            if self.head(name) is not None:
                return True
            name += "/"
        return next(iter(self._walk(name)), None) is not None

    def create_once(self, key: str, data: bytes) -> bool:
        """Create an object that never changes afterwards; safe to repeat.

        "Exists" may be our own success whose reply was lost, so the object is read back:
        equal bytes are ours. Nothing is ever deleted in doubt.

        Returns:
            True when these bytes stand, False when others do.

        Raises:
            CommitUnknownError: What stands could not be found out within the attempts.
            StorageError: The write surely did not land.
        """
        reason = "it was refused, yet no object stands there"
        for pause in self._create_pauses():
            time.sleep(pause)
            try:
                self._create_new(key, data)
                return True
            except FileExistsError:
                pass
            except CommitUnknownError as error:
                reason = error.reason
            try:
                return self.get(key) == data
            except ObjectNotFoundError:
                continue
            except StorageError as error:
                reason = str(error)
        raise CommitUnknownError(self.join(key), reason)

    def _create_pauses(self) -> Iterator[float]:
        """Seconds to wait before each attempt to create; the last one said is the last one."""
        yield 0.0
        for attempt in range(self.create_attempts - 1):
            yield self.pause_s * 2**attempt * random.uniform(0.5, 1.0)

    @abstractmethod
    def sweep(self, folder: str, *, deep: bool = False) -> int:
        """Remove what killed writers left unfinished in a folder, with `deep` also below it.

        Only for folders in which no write can count any more.

        Returns:
            How many leftovers were removed.
        """


def open_store(url: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Store:
    """The store behind a path or URL; creates nothing.

    Args:
        url: Local path (`~` allowed) or URL.
        options: fsspec options of the scheme, secrets as `env:NAME`. A local folder takes
            none and ignores them: the same options may be meant for the manifest.

    Raises:
        InputError: The path is empty or names a file, its scheme is not supported or its
            client not installed, or a secret is written out.
    """
    address = os.fspath(url)
    if not address:
        raise InputError(f"output: the path is empty, give {SUPPORTED}")
    check_url(address, "output")
    check_options(options or {})
    scheme = scheme_of(address)
    if scheme not in STORES or (scheme and "::" in address):
        raise InputError(f"{address}: this version stores to {SUPPORTED}")
    demand_client(address)
    module, _, name = STORES[scheme].partition(":")
    implementation = getattr(importlib.import_module(module), name)
    store: Store = implementation(address, dict(options or {}))
    return store


def check_key(key: str) -> None:
    """Refuse a key that is not made of plain words: it might leave the root.

    Raises:
        InputError: It holds anything but letters, digits and `_ = . -` between slashes.
    """
    if isinstance(key, NamedKey):  # it was checked when it was made
        return
    if not key.isascii() or not all(_PART.fullmatch(part) for part in key.split("/")):
        raise InputError(f"object key {key!r}: only letters, digits and '_=.-' between slashes")


def check_prefix(prefix: str) -> None:
    """Refuse a listing prefix that no key could begin with.

    Raises:
        InputError: As `check_key`; empty and a trailing slash are fine here.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))

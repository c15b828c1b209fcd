"""Pictures that a manifest points to: fetched under rules, because manifests are untrusted.

By default nothing but `https` to public hosts is followed. Buckets and local folders are read
only below roots that the run's owner named. Whatever is refused or fails is one line about the
row, and every fetch ends: bytes and time have caps. What the bytes show is not judged here,
see `dataset/input_picture.py`.
"""

from __future__ import annotations

import os
import posixpath
import re
import ssl
import stat
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sdbatch.errors import (
    InputError,
    InputPictureError,
    InputUnreachableError,
    ObjectNotFoundError,
    StorageError,
)
from sdbatch.remote import local_path
from sdbatch.storage.http_fetch import HttpFetch, HttpRules
from sdbatch.storage.store import Store, open_store

NETWORK = ("https", "http")
LOCAL = ("", "file")
MAX_BYTES = 32 * 1024 * 1024
TIMEOUT_S = 30.0
MAX_REDIRECTS = 5
MAX_URI_CHARS = 4096

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):")  # one letter is a drive's


class InputFetcher:
    """Fetches what rows point to. Threads may share one.

    Args:
        allowed_schemes: Of `https`, `http` and `file`; buckets are allowed by naming a root.
        allowed_roots: Local folders and bucket URLs (`s3://bucket/prefix`) below which rows
            may point; relative paths are looked for in each local one.
        max_bytes: Longest body.
        timeout_s: Longest fetch, redirects and all.
        storage: Scheme of a bucket root to its fsspec options.
        allow_hosts: `host:port`, spelt as in the URL, that may be asked although they are not
            public. A server of one's own network is named here, or not reached.
        tls: Whom https connections trust; None trusts whom this machine trusts.

    Raises:
        InputError: A scheme or root cannot be used.
    """

    def __init__(
        self,
        allowed_schemes: Collection[str] = ("https",),
        allowed_roots: Sequence[str] = (),
        max_bytes: int = MAX_BYTES,
        timeout_s: float = TIMEOUT_S,
        *,
        max_redirects: int = MAX_REDIRECTS,
        storage: Mapping[str, Mapping[str, Any]] | None = None,
        allow_hosts: Collection[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        unknown = set(allowed_schemes) - {*NETWORK, "file"}
        if unknown:
            raise InputError(
                f"scheme '{min(unknown)}': https, http and file can be allowed by name, "
                "a bucket by naming it as a root"
            )
        schemes = frozenset(allowed_schemes)
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._file = "file" in schemes
        self._rules = HttpRules(
            schemes & {*NETWORK}, max_bytes, timeout_s, max_redirects, frozenset(allow_hosts), tls
        )
        self._folders: list[str] = []
        self._buckets: list[tuple[str, Store]] = []
        for root in allowed_roots:
            self._add_root(root, storage or {})

    def fetch(self, uri: str) -> bytes:
        """The bytes that a row points to, at most `max_bytes` of them within `timeout_s`.

        Raises:
            InputPictureError: The rules refuse it, or nothing is there; the row is at fault.
            InputUnreachableError: Network or server failed; it may work later.
        """
        scheme = _scheme(uri)
        chained = scheme not in NETWORK and "::" in uri
        if not uri or len(uri) > MAX_URI_CHARS or not uri.isprintable() or chained:
            raise InputPictureError(uri, "is no plain path or URL")
        if scheme in NETWORK:
            http = HttpFetch(self._rules)
            return self._within_time(uri, lambda: http.get(uri), http.abort)
        if scheme in LOCAL:
            return self._within_time(uri, lambda: self._read_local(uri, scheme))
        return self._within_time(uri, lambda: self._read_bucket(uri, scheme))

    def _add_root(self, root: str, storage: Mapping[str, Mapping[str, Any]]) -> None:
        scheme = _scheme(root)
        if scheme in NETWORK or "::" in root:
            raise InputError(f"root {root}: name a local folder or a bucket")
        if scheme in LOCAL:
            path = os.path.realpath(os.path.expanduser(local_path(root)))
            if not os.path.isdir(path):
                raise InputError(f"root {root}: no such folder")
            self._folders.append(path)
        else:
            address = root.rstrip("/")
            self._buckets.append((address, open_store(address, storage.get(scheme))))

    def _read_local(self, uri: str, scheme: str) -> bytes:
        """A regular file below a root, wherever its links lead."""
        if not self._folders or (scheme == "file" and not self._file):
            raise InputPictureError(uri, "is a local file, and this run allows none")
        path = local_path(uri)
        for root in self._folders:
            real = os.path.realpath(os.path.join(root, path))
            if _is_below(real, root) and os.path.exists(real):
                return self._read_file(uri, real)
        raise InputPictureError(uri, "is no file below the folders that this run allows")

    def _read_file(self, uri: str, real: str) -> bytes:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(real, flags)
            try:
                facts = os.fstat(handle)
                if not stat.S_ISREG(facts.st_mode):
                    raise InputPictureError(uri, "is no regular file")
                # A folder on the way may have become a link since: judged again, once open.
                same = os.stat(real, follow_symlinks=False)
                if os.path.realpath(real) != real or not os.path.samestat(facts, same):
                    raise InputPictureError(uri, "has moved while it was opened")
                with open(handle, "rb", closefd=False) as file:
                    return self._capped(uri, facts.st_size, file.read)
            finally:
                os.close(handle)
        except OSError as error:
            raise InputPictureError(uri, f"cannot be read ({error.strerror})") from error

    def _read_bucket(self, uri: str, scheme: str) -> bytes:
        """An object below a root in a bucket."""
        for root, store in self._buckets:
            key = uri.removeprefix(f"{root}/")
            if key == uri:
                continue
            if posixpath.normpath(key) != key or key.startswith(("../", "/")):
                raise InputPictureError(uri, "must be spelt without '.', '..' and '//'")
            try:
                info = store.head(key)
                if info is None:
                    raise ObjectNotFoundError(key)
                with store.open(key) as source:
                    return self._capped(uri, info.size_bytes, source.read)
            except ObjectNotFoundError as error:
                raise InputPictureError(uri, "there is no such object") from error
            except StorageError as error:
                raise InputUnreachableError(uri, f"cannot be read ({error})") from error
            except InputError as error:
                raise InputPictureError(uri, str(error)) from error
        raise InputPictureError(uri, f"is a '{scheme}' address below no root that this run allows")

    def _capped(self, uri: str, size: int, read: Callable[[int], bytes]) -> bytes:
        """All of it, unless it is too long: by its size, and by what really comes."""
        limit = self._max_bytes
        data = read(limit + 1) if size <= limit else b""
        if size > limit or len(data) > limit:
            raise InputPictureError(uri, f"is longer than {limit:,} bytes")
        return data

    def _within_time(
        self, uri: str, get: Callable[[], bytes], abort: Callable[[], None] = lambda: None
    ) -> bytes:
        """Run `get` in a thread of its own: names, handshakes and slow bodies all end with it."""
        answer: list[bytes | BaseException] = []

        def run() -> None:
            try:
                answer.append(get())
            except BaseException as error:  # noqa: BLE001  # raised again by the one who waits
                answer.append(error)

        thread = threading.Thread(target=run, name="input", daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if not answer:
            abort()
            raise InputUnreachableError(uri, f"took longer than {self._timeout_s:g} s")
        if isinstance(answer[0], BaseException):
            raise answer[0]
        return answer[0]


def _is_below(path: str, folder: str) -> bool:
    with suppress(ValueError):  # of another drive
        return os.path.commonpath([folder, path]) == folder
    return False


def _scheme(uri: str) -> str:
    match = _SCHEME.match(uri)
    return match.group(1).lower() if match else ""

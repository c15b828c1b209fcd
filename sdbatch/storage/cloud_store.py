"""Objects in a bucket: what S3, Google Cloud Storage and Azure have in common.

A scheme adds a handful of single requests; here they become verbs. Every upload carries the
MD5 of its bytes and is looked at afterwards, every download is checked for length and MD5,
so that bytes are right or the verb fails. No object is ever written through an open file:
leaving such a file by an exception would store the half that was written.
"""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, BinaryIO, ClassVar, NoReturn, TypeVar, cast

from sdbatch.credentials import redact
from sdbatch.errors import (
    CommitUnknownError,
    DamagedError,
    InputError,
    ObjectNotFoundError,
    StorageError,
    StoreAccessError,
)
from sdbatch.remote import file_system
from sdbatch.storage.chunks import RangedReader, naming, to_be_stored
from sdbatch.storage.cloud_address import parse_address
from sdbatch.storage.digests import file_md5, md5_of
from sdbatch.storage.retrying import (
    Fault,
    FaultError,
    Kind,
    Patience,
    TornError,
    pauses,
    persist,
    remaining_s,
    time_limit,
    wait_for,
)
from sdbatch.storage.store import ObjectInfo, Store, check_key, check_prefix

T = TypeVar("T")
Request = Callable[[], Coroutine[Any, Any, T]]
NEEDS_BUCKET = ("write", "create", "list")
"""Doings for which "not found" can only mean the bucket."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a store says of an object.

    Attributes:
        tag: The store's mark of this version.
        md5: Of its bytes, 32 hex digits; empty where the store does not know it.
        proof: The store's own checksum, as it tells it of what it holds; may be empty.
    """

    size_bytes: int
    tag: str
    md5: str = ""
    proof: str = ""


class CloudStore(Store):
    """A bucket, or a folder of one; a scheme adds its requests.

    Attributes:
        patience: How long verbs try.
        chunk_bytes: What one request moves at most; objects of up to two go up in one.
        streams: Requests of one large object at the same time.
    """

    patience: Patience = Patience()
    chunk_bytes: int = 8 << 20
    streams: ClassVar[int] = 4

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self.url = url.rstrip("/")
        self.bucket, self._folder = parse_address(self.url)
        self.options = dict(options)
        self._made: tuple[int, Any] | None = None
        self._making = Lock()

    # -- requests a scheme adds: one exchange each, raising what its client raises -------------

    @abstractmethod
    async def _put(self, name: str, data: bytes, md5: str, *, only_new: bool) -> None:
        """Write an object in one request that carries its MD5."""

    @abstractmethod
    async def _read(self, name: str, first: int, end: int, tag: str) -> tuple[bytes, Facts]:
        """Bytes `[first, end)`, or up to the object's end; of that version alone with a tag."""

    @abstractmethod
    async def _stat(self, name: str) -> Facts:
        """What the store knows of an object."""

    @abstractmethod
    async def _page(self, prefix: str, mark: str) -> tuple[Sequence[tuple[str, Facts]], str]:
        """Some objects below a prefix, and the mark at which to go on; empty at the end."""

    @abstractmethod
    async def _remove(self, name: str) -> None:
        """Delete an object."""

    @abstractmethod
    def _put_large(self, key: str, file: BinaryIO, size: int, md5: str) -> str:
        """Write a file in several checked requests, visible at the last one.

        Returns:
            What `Facts.proof` says of it afterwards.

        Raises:
            TornError: It has to be begun again.
        """

    @abstractmethod
    def _sort(self, error: Exception) -> Fault:
        """What an error of the client means."""

    # -- verbs -----------------------------------------------------------------------------

    def get(self, key: str) -> bytes:  # noqa: D102
        with self._judged(key):
            data, facts = self._first(key)
            if facts.size_bytes == len(data):
                return data
            starts = range(len(data), facts.size_bytes, self.chunk_bytes)
            data = b"".join([data, *(self._piece(key, first, facts) for first in starts)])
        self._check(key, md5_of(data), facts)
        return data

    def get_file(self, key: str, path: str | os.PathLike[str]) -> None:  # noqa: D102
        with self._judged(key):
            data, facts = self._first(key)
            starts = range(len(data), facts.size_bytes, self.chunk_bytes)
            with naming(path), open(path, "wb") as file:
                file.write(data)
                self._fetch_into(file, key, starts, facts)
            if starts:
                with naming(path), open(path, "rb") as file:
                    md5 = file_md5(file)
                self._check(key, md5, facts)

    def put(self, key: str, data: bytes) -> None:  # noqa: D102
        check_key(key)
        with self._judged(key):
            if len(data) > 2 * self.chunk_bytes:
                self._upload(key, io.BytesIO(data), len(data))
            else:
                self._put_small(key, data, md5_of(data))

    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> ObjectInfo:  # noqa: D102
        check_key(key)
        with to_be_stored(local_path):
            file = open(local_path, "rb")  # noqa: SIM115  # closed below; its errors are ours
        with file, self._judged(key):
            return self._upload(key, file, os.fstat(file.fileno()).st_size)

    def head(self, key: str) -> ObjectInfo | None:  # noqa: D102
        name = self._name(key)
        try:
            with self._judged(key):
                facts = self._do(key, "look up", lambda: self._stat(name))
        except ObjectNotFoundError:
            return None
        return ObjectInfo(key, facts.size_bytes, facts.tag)

    def delete(self, key: str) -> None:  # noqa: D102
        name = self._name(key)
        with suppress(ObjectNotFoundError), self._judged(key):
            self._do(key, "delete", lambda: self._remove(name))

    def open(self, key: str) -> BinaryIO:
        """As promised of every store; a range is checked for its length and its version."""
        with self._judged(key):
            data, facts = self._first(key)
        if len(data) == facts.size_bytes:
            return io.BytesIO(data)

        def fetch(first: int, end: int) -> bytes:
            with self._judged(key):
                return self._piece(key, first, facts, end)

        raw = RangedReader(facts.size_bytes, data, fetch, self.chunk_bytes)
        return cast(BinaryIO, io.BufferedReader(raw, 1 << 16))

    def join(self, key: str) -> str:  # noqa: D102
        return f"{self.url}/{key}"

    def sweep(self, folder: str, *, deep: bool = False) -> int:  # noqa: ARG002, D102
        check_prefix(folder)
        return 0  # an unfinished upload is no object; the bucket's lifecycle rule ends it

    def create_once(self, key: str, data: bytes) -> bool:  # noqa: D102
        with time_limit(self.patience.verb_s):
            return super().create_once(key, data)

    def _create_pauses(self) -> Iterator[float]:
        yield 0.0
        for pause in pauses(self.patience):
            if remaining_s() <= 0:
                return
            yield min(pause, remaining_s())

    def _create_new(self, key: str, data: bytes) -> None:
        name, md5 = self._name(key), md5_of(data)
        once = replace(self.patience, calls=1)
        try:
            self._do(key, "create", lambda: self._put(name, data, md5, only_new=True), once)
        except FaultError as error:
            if error.fault.kind is Kind.EXISTS:
                raise FileExistsError(self.join(key)) from error
            raise self._error(key, error.fault) from error
        except StoreAccessError:
            raise
        except StorageError as error:
            # Whether a request took effect before it failed is not for its sender to know.
            raise CommitUnknownError(self.join(key), str(error)) from error

    def _walk(self, prefix: str) -> Iterator[ObjectInfo]:
        start, mark = f"{self._folder}{prefix}", ""
        while True:
            with self._judged(prefix):
                found, mark = self._do(prefix, "list", lambda at=mark: self._page(start, at))  # type: ignore[misc]
            for name, facts in found:
                if not name.endswith("/"):  # makes an empty folder visible somewhere
                    key = name.removeprefix(self._folder)
                    yield ObjectInfo(key, facts.size_bytes, facts.tag)
            if not mark:
                return

    # -- parts of verbs ----------------------------------------------------------------------

    def _upload(self, key: str, file: BinaryIO, size: int) -> ObjectInfo:
        """Write a file and look at what stands; a torn upload is begun again."""
        small = size <= 2 * self.chunk_bytes
        data = file.read() if small else b""
        md5 = md5_of(data) if small else file_md5(file)
        reason = ""
        for _ in range(self.patience.torn_tries):
            try:
                if small:
                    proof = self._put_small(key, data, md5)
                else:
                    proof = self._put_large(key, file, size, md5)
                facts = self._do(key, "look up", lambda: self._stat(self._name(key)))
            except TornError as error:
                reason = str(error)
                continue
            reason = f"{size} bytes were sent, {facts.size_bytes} bytes stand there"
            if facts.size_bytes == size:
                if self._stands(key, facts, md5, proof):
                    return ObjectInfo(key, size, facts.tag)
                reason = "what stands there has another checksum than what was sent"
        raise DamagedError(self.join(key), reason)

    def _put_small(self, key: str, data: bytes, md5: str) -> str:
        """Write an object in one request; returns what `Facts.proof` says of it afterwards."""
        name = self._name(key)
        self._do(key, "write", lambda: self._put(name, data, md5, only_new=False))
        return md5

    def _stands(self, key: str, facts: Facts, md5: str, proof: str) -> bool:
        """Whether an object's bytes are those sent: by the store's word, else by reading."""
        if proof and facts.proof == proof:
            return True
        starts = range(0, facts.size_bytes, self.chunk_bytes)
        return md5_of(*(self._piece(key, first, facts) for first in starts)) == md5

    def _first(self, key: str) -> tuple[bytes, Facts]:
        """The first bytes of an object and its facts; all of a small one, checked."""
        name, torn = self._name(key), 0

        async def request() -> tuple[bytes, Facts]:
            nonlocal torn
            data, facts = await self._read(name, 0, self.chunk_bytes, "")
            due = min(facts.size_bytes, self.chunk_bytes)
            whole = due == facts.size_bytes and bool(facts.md5)
            if len(data) == due and not (whole and md5_of(data) != facts.md5):
                return data, facts
            torn += 1
            reason = f"{due} bytes were stored, {len(data)} arrived or others"
            if torn >= self.patience.torn_tries:
                raise DamagedError(self.join(key), reason)
            raise TornError(reason)

        try:
            return self._do(key, "read", request)
        except FaultError as error:
            if error.fault.kind is not Kind.RANGE:
                raise
            return b"", self._do(key, "look up", lambda: self._stat(name))  # it is empty

    def _piece(self, key: str, first: int, facts: Facts, end: int = -1) -> bytes:
        """Bytes of one version of an object, a chunk unless said; never fewer than due."""
        name = self._name(key)
        last = min(first + self.chunk_bytes if end < 0 else end, facts.size_bytes)

        async def request() -> bytes:
            data, now = await self._read(name, first, last, facts.tag)
            if len(data) != last - first or now.size_bytes != facts.size_bytes:
                raise TornError(f"{last - first} bytes were due, {len(data)} arrived")
            return data

        return self._do(key, "read", request)

    def _fetch_into(self, file: BinaryIO, key: str, starts: Sequence[int], facts: Facts) -> None:
        lock = Lock()

        def fetch(first: int) -> None:
            piece = self._piece(key, first, facts)
            with lock:
                file.seek(first)
                file.write(piece)

        with ThreadPoolExecutor(self.streams, "download") as pool:
            for _ in pool.map(fetch, starts):
                pass

    def _check(self, key: str, md5: str, facts: Facts) -> None:
        if facts.md5 and md5 != facts.md5:
            raise DamagedError(self.join(key), "other bytes arrived than were stored")

    # -- requests, patiently -------------------------------------------------------------------

    def _do(self, key: str, doing: str, request: Request[T], patience: Patience | None = None) -> T:
        """Make a request as often as it takes, within the verb's time."""

        def call(timeout_s: float) -> T:
            self._before()
            return wait_for(request, timeout_s)

        try:
            return persist(self.join(key), doing, call, self._sorted, patience or self.patience)
        except FaultError as error:
            if error.fault.kind is Kind.ABSENT and doing in NEEDS_BUCKET:
                reason = "there is no such bucket, create it or name another"
                raise StoreAccessError(f"{self.url}: {reason}") from error
            raise

    def _before(self) -> None:
        """What must not happen on the client's loop, because it blocks."""
        self._client()

    def _sorted(self, error: Exception) -> Fault:
        if isinstance(error, StorageError | InputError):
            raise error
        if isinstance(error, TornError):
            return Fault(Kind.PASSING, str(error))
        return self._sort(error)

    def _client(self) -> Any:
        """The file system of this very process: it would not survive a fork."""
        with self._making:
            if self._made is None or self._made[0] != os.getpid():
                try:
                    fs, _ = file_system(self.url, self.options)
                except (InputError, StorageError):
                    raise
                except Exception as error:
                    raise self._not_opened(error) from error
                self._made = (os.getpid(), fs)
            return self._made[1]

    def _not_opened(self, error: Exception) -> StorageError:
        reason = " ".join(str(error).split())
        return StoreAccessError(redact(f"{self.url}: cannot be opened: {reason}"))

    @contextmanager
    def _judged(self, key: str) -> Iterator[None]:
        """Turn what a request met into the error the verb promises."""
        try:
            yield
        except FaultError as error:
            raise self._error(key, error.fault) from error

    def _error(self, key: str, fault: Fault) -> StorageError:
        if fault.kind is Kind.ABSENT:
            return ObjectNotFoundError(self.join(key))
        if fault.kind is Kind.EXISTS:
            return StorageError(f"{self.join(key)}: changed while it was read")
        return StorageError(redact(f"{self.join(key)}: {fault.reason}"))

    def _name(self, key: str) -> str:
        check_key(key)
        return f"{self._folder}{key}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store holds credentials and stays where it was opened: send its URL")

"""What an export has written down at DEST, in `__sdbatch/export/`.

    terms.json              what was asked for; created once
    files/NNNNNN.json       one finished output file: its objects and the shards its rows are of
    intents/*.parquet       pictures that an attempt is about to write, until its record stands
    rows/NNNNNN-*.parquet   rows of a file whose pictures are files of their own
    retired/NNNNNN.json     that file no longer counts: rows changed, or it is merged with others
    closed/NNNN.json.gz     the end of a call: every shard as it was exported, with counts
    lease/                  one export at a time

Records are created once and never change. An output file exists by its record alone, so that a
call that is killed anywhere loses and doubles nothing: what no record names is removed by
the next call, what has a record is not written again.
"""

from __future__ import annotations

import gzip
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from sdbatch.errors import DamagedError, LeaseHeldError, ObjectNotFoundError
from sdbatch.results import DataFile
from sdbatch.storage import layout
from sdbatch.storage.record import PROTOCOL, check_protocol, parse_object, read_current, to_line
from sdbatch.storage.store import Store

RUN = "export"
"""The name under which an export's state lies, as that of a run does."""

READERS = 16
MAX_RANGES = 64
_NUMBER = re.compile(r"/(\d+)(?:-[0-9a-f]{8})?\.[a-z.]+$")

Ranges = tuple[tuple[str, int, int], ...]
"""(run, first shard, last shard) of consecutive shards."""


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A finished output file.

    Attributes:
        number: Of its record, in the order in which files were finished.
        split: The split its rows belong to.
        place: From 0 within the split; it stands in the file's name.
        attempt: Eight hex digits, unique to the writing.
        data: The file with pictures; None where each picture is a file of its own.
        rows: The same rows without pictures, with the names of their files.
        shards: Where its rows come from; may name more shards than that.
        columns_id: Of its columns.
    """

    number: int
    split: str
    place: int
    attempt: str
    data: DataFile | None
    rows: DataFile
    picture_bytes: int
    shards: Ranges
    columns_id: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Objects that it consists of, apart from single pictures."""
        return (*((self.data.key,) if self.data else ()), self.rows.key)


@dataclass(frozen=True, slots=True)
class ShardCount:
    """What became of one shard's pictures.

    Attributes:
        signature: Of its standing revision and all else that decides; another one is read again.
        exported: Rows that stand at DEST.
        left_out: By `--where`.
        older: By `--latest`.
    """

    signature: str
    exported: int
    left_out: int
    older: int


@dataclass(frozen=True, slots=True)
class Closing:
    """The end of a call.

    Attributes:
        number: From 0.
        files: Records of output files up to this number were seen.
        retired: Those of them that no longer counted.
        shards: (run, shard) to what became of it.
    """

    number: int
    files: int
    retired: frozenset[int]
    shards: Mapping[tuple[str, int], ShardCount]


class Ledger:
    """The state of an export at its DEST."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state = layout.state_prefix(RUN)

    # -- terms -------------------------------------------------------------------------------

    def terms(self) -> dict[str, Any] | None:
        """What the first call was asked for; None when there was none.

        Raises:
            DamagedError: It cannot be read.
        """
        try:
            body = read_current(self._store, f"{self._state}terms.json")
        except ObjectNotFoundError:
            return None
        terms: dict[str, Any] = body["terms"]
        return terms

    def pin(self, terms: Mapping[str, Any]) -> None:
        """Write the terms down, unless some stand."""
        body = to_line({"protocol": PROTOCOL, "terms": dict(terms)})
        self._store.create_once(f"{self._state}terms.json", body)

    # -- output files ------------------------------------------------------------------------

    def files(self) -> list[OutputFile]:
        """All output files that were ever finished, by number; `retired` no longer count."""
        keys = [info.key for info in self._store.list(f"{self._state}files/")]
        with ThreadPoolExecutor(READERS, thread_name_prefix="files") as pool:
            read = pool.map(self._file, keys) if len(keys) > READERS else map(self._file, keys)
            return sorted(read, key=lambda file: file.number)

    def add(self, file: OutputFile) -> None:
        """Let a file exist; its objects must stand.

        Raises:
            LeaseHeldError: Another export has taken its number.
        """
        key = f"{self._state}files/{file.number:06d}.json"
        if not self._store.create_once(key, to_line({"protocol": PROTOCOL, **asdict(file)})):
            raise LeaseHeldError(f"{self._store.url}: another export writes here, wait for it")

    def retired(self) -> frozenset[int]:
        """Numbers of files that no longer count."""
        return frozenset(self._numbers("retired/"))

    def retire(self, numbers: Iterable[int]) -> None:
        """Let files count no longer."""
        for number in sorted(numbers):
            body = to_line({"protocol": PROTOCOL, "number": number})
            self._store.create_once(f"{self._state}retired/{number:06d}.json", body)

    # -- pictures that are about to be written -------------------------------------------------

    def intent_key(self, attempt: str) -> str:
        """The object that names the pictures of an attempt at a file."""
        return f"{self._state}intents/{attempt}.parquet"

    def rows_key(self, number: int, attempt: str) -> str:
        """The rows of a file whose pictures are files of their own."""
        return f"{self._state}rows/{number:06d}-{attempt}.parquet"

    def intents(self) -> list[str]:
        """Keys of all intents that stand."""
        return [info.key for info in self._store.list(f"{self._state}intents/")]

    def rows_objects(self) -> list[str]:
        """Keys of all rows that stand here, those of unfinished attempts too."""
        return [info.key for info in self._store.list(f"{self._state}rows/")]

    # -- the end of a call ---------------------------------------------------------------------

    def closing(self) -> Closing | None:
        """How the last finished call ended; None when none did.

        Raises:
            DamagedError: It cannot be read.
        """
        number = max(self._numbers("closed/"), default=None)
        if number is None:
            return None
        key = f"{self._state}closed/{number:04d}.json.gz"
        try:
            body = parse_object(self._store.join(key), gzip.decompress(self._store.get(key)))
            check_protocol(self._store.join(key), body)
            shards = {
                (run, shard_id): ShardCount(*count)
                for run, counts in body["shards"].items()
                for shard_id, *count in counts
            }
            return Closing(number, body["files"], frozenset(body["retired"]), shards)
        except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(self._store.join(key), f"cannot be read ({error})") from error

    def close(self, closing: Closing) -> None:
        """Write down how a call ended."""
        shards: dict[str, list[list[Any]]] = {}
        for (run, shard_id), count in sorted(closing.shards.items()):
            facts = [count.signature, count.exported, count.left_out, count.older]
            shards.setdefault(run, []).append([shard_id, *facts])
        body = {
            "protocol": PROTOCOL,
            "files": closing.files,
            "retired": sorted(closing.retired),
            "shards": shards,
        }
        # The time in a gzip header would make equal records differ.
        data = gzip.compress(json.dumps(body, separators=(",", ":")).encode(), mtime=0)
        self._store.create_once(f"{self._state}closed/{closing.number:04d}.json.gz", data)

    # ----------------------------------------------------------------------------------------

    def _numbers(self, folder: str) -> Iterator[int]:
        for info in self._store.list(f"{self._state}{folder}"):
            if match := _NUMBER.search(info.key):
                yield int(match[1])

    def _file(self, key: str) -> OutputFile:
        body = read_current(self._store, key)
        body.pop("protocol")
        try:
            return OutputFile(
                data=DataFile(**data) if (data := body.pop("data")) else None,
                rows=DataFile(**body.pop("rows")),
                shards=tuple((run, first, last) for run, first, last in body.pop("shards")),
                **body,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedError(self._store.join(key), "no record of an export") from error


def new_attempt() -> str:
    """Eight hex digits that no other attempt has."""
    return uuid.uuid4().hex[:8]


def ranges(shards: Iterable[tuple[str, int]]) -> Ranges:
    """Shards as few ranges; where they lie too far apart, with shards between them."""
    found: list[list[Any]] = []
    for run, shard_id in sorted(set(shards)):
        if found and found[-1][0] == run and shard_id == found[-1][2] + 1:
            found[-1][2] = shard_id
        else:
            found.append([run, shard_id, shard_id])
    if len(found) > MAX_RANGES:
        runs = sorted({run for run, _, _ in found})
        found = [
            [run, min(one[1] for one in found if one[0] == run),
             max(one[2] for one in found if one[0] == run)]
            for run in runs
        ]  # fmt: skip
    return tuple((run, first, last) for run, first, last in found)

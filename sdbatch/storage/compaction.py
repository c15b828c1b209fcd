"""Many commit records in one object, so that a long run is resumed in seconds.

A compaction holds records as they stand, byte for byte, but it is only a copy: it is used when
it is whole and of this plan, and otherwise ignored, whatever happened to it. What it says
stays true for ever, since records never change; what it cannot know are later commits and
later reworks, and both are looked up where they lie.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sdbatch.errors import StorageError
from sdbatch.storage import layout
from sdbatch.storage.record import KNOWN_PROTOCOLS, PROTOCOL, to_line
from sdbatch.storage.store import Store

TRIED = 2
"""How many of the newest compactions are looked at; gc keeps as many."""


@dataclass(frozen=True, slots=True)
class Line:
    """A record inside a compaction.

    Attributes:
        tag: The store's mark of the record's object when it was copied.
        record: Its bytes.
    """

    shard_id: int
    revision: int
    tag: str
    record: bytes


@dataclass(frozen=True)
class Compaction:
    """A compaction that was read and found whole.

    Attributes:
        success: Number of the newest success record before its shards were listed, -1 for
            none: revisions of later reworks may be missing.
        revisions: Shard to the revision it holds.
    """

    number: int
    success: int
    revisions: Mapping[int, int]
    _data: bytes

    def lines(self) -> Iterator[Line]:
        """Its records, in shard order."""
        with gzip.open(io.BytesIO(self._data)) as file:
            for line in islice(file, 1, len(self.revisions) + 1):
                yield _parse_line(line)


def newest_compaction(store: Store, run: str, plan_id: str) -> Compaction | None:
    """The newest compaction of this plan that can be used; None when there is none.

    A failing store is no reason to stop either: records are listed and read instead.
    """
    try:
        numbers = compaction_numbers(store, run)
    except StorageError:
        return None
    for number in reversed(numbers[-TRIED:]):
        try:
            return _parse(number, store.get(layout.compaction_key(run, number)), plan_id)
        except (StorageError, ValueError, TypeError, KeyError, EOFError, OSError, zlib.error):
            continue
    return None


def compaction_numbers(store: Store, run: str) -> list[int]:
    """Numbers of all compactions, rising."""
    keys = (info.key for info in store.list(layout.compactions_prefix(run)))
    return sorted(number for key in keys if (number := layout.parse_compaction(key)) is not None)


def pack(lines: Iterable[Line], plan_id: str, success: int) -> bytes:
    """The bytes of a compaction: a head, a line per record in shard order, a foot.

    Memory holds what is packed, never the records.
    """
    target, digest, count = io.BytesIO(), hashlib.sha256(), 0
    with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=1, mtime=0) as file:

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        write(to_line({"protocol": PROTOCOL, "plan_id": plan_id, "success": success}))
        for line in lines:
            place = json.dumps([line.shard_id, line.revision, line.tag])
            write(place[:-1].encode() + b"," + line.record.rstrip(b"\n") + b"]\n")
            count += 1
        file.write(to_line({"records": count, "sha256": digest.hexdigest()}))
    return target.getvalue()


def _parse(number: int, data: bytes, plan_id: str) -> Compaction:
    """Read all of it once.

    Raises:
        ValueError: It is torn, damaged, of another plan or of another protocol.
    """
    digest = hashlib.sha256()
    revisions: dict[int, int] = {}
    with gzip.open(io.BytesIO(data)) as file:
        first = file.readline()
        head = json.loads(first)
        if head["protocol"] not in KNOWN_PROTOCOLS or head["plan_id"] != plan_id:
            raise ValueError("not of this plan")
        digest.update(first)
        foot: dict[str, Any] | None = None
        for line in file:
            if line.startswith(b"{"):
                foot = json.loads(line)
                break
            digest.update(line)
            shard_id, revision, _ = _place(line)
            revisions[shard_id] = revision
        if foot is None or file.read(1):
            raise ValueError("torn")
    if (foot["records"], foot["sha256"]) != (len(revisions), digest.hexdigest()):
        raise ValueError("damaged")
    return Compaction(number, int(head["success"]), revisions, data)


def _parse_line(line: bytes) -> Line:
    shard_id, revision, tag = _place(line)
    return Line(shard_id, revision, tag, line[line.index(b"{") : -2] + b"\n")


def _place(line: bytes) -> tuple[int, int, str]:
    """What stands before the record, which begins with the first brace."""
    shard_id, revision, tag = json.loads(line[: line.index(b"{") - 1] + b"]")
    return int(shard_id), int(revision), str(tag)

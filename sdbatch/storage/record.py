"""One record: its line of ASCII, and what the line says when it is read back.

Commit, success and rework records are one line each, so that no byte of a record can be
taken for a client's own framing. A record of a later protocol is refused, never guessed at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdbatch.errors import DamagedError, InputError
from sdbatch.results import DataFile, ShardResult
from sdbatch.storage.store import Store

PROTOCOL = 2
KNOWN_PROTOCOLS = (1, 2)
"""Protocols that are read; the last is written. Records of the first name no filtered file."""


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """A commit record, read back.

    Attributes:
        result: What the attempt made of the shard.
        revision: 0 for the first commit; a later retry or repair has a higher one.
        write_id: Unique to the call that wrote it.
    """

    result: ShardResult
    plan_id: str
    revision: int
    write_id: str

    @property
    def files(self) -> tuple[tuple[str, DataFile], ...]:
        """(kind, file) of everything the shard consists of."""
        files = (
            ("data", self.result.data),
            ("metadata", self.result.metadata),
            ("errors", self.result.errors_file),
            ("filtered", self.result.filtered_file),
        )
        return tuple((kind, file) for kind, file in files if file is not None)


def to_line(body: Mapping[str, Any]) -> bytes:
    """One ASCII line."""
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def read_object(store: Store, key: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ObjectNotFoundError: There is none.
        DamagedError: It is no JSON object.
    """
    return parse_object(store.join(key), store.get(key))


def read_current(store: Store, key: str) -> dict[str, Any]:
    """A JSON object of this protocol.

    Raises:
        ObjectNotFoundError: There is none.
        DamagedError: It is no JSON object, or says no protocol.
        InputError: It was written by a later version.
    """
    body = read_object(store, key)
    check_protocol(store.join(key), body)
    return body


def parse_object(where: str, data: bytes) -> dict[str, Any]:
    """A JSON object from its bytes.

    Raises:
        DamagedError: It is none.
    """
    try:
        body = json.loads(data)
    except ValueError as error:
        raise DamagedError(where, f"no JSON ({error})") from error
    if not isinstance(body, dict):
        raise DamagedError(where, "no JSON object")
    return body


def parse_record(where: str, data: bytes) -> CommitRecord:
    """A commit record from its line.

    Raises:
        DamagedError: It is no commit record.
        InputError: It was written by a later version.
    """
    facts = parse_object(where, data)
    check_protocol(where, facts)
    try:
        return _parse_record(facts)
    except (KeyError, TypeError) as error:
        raise DamagedError(where, "it is no commit record") from error


def check_protocol(where: str, body: Mapping[str, Any]) -> None:
    """Refuse what this version does not speak.

    Raises:
        DamagedError: There is no protocol in it, or none that ever was.
        InputError: It was written by a later version.
    """
    version = body.get("protocol")
    if isinstance(version, int) and version > PROTOCOL:
        raise InputError(f"{where}: protocol {version}, this sdbatch reads {PROTOCOL}, update it")
    if version not in KNOWN_PROTOCOLS:
        raise DamagedError(where, f"protocol {version!r} instead of {PROTOCOL}")


def _parse_record(facts: dict[str, Any]) -> CommitRecord:
    facts.pop("protocol")
    plan_id, revision, write_id = (facts.pop(name) for name in ("plan_id", "revision", "write_id"))
    facts.setdefault("filtered_file", None)
    for name in ("data", "metadata", "errors_file", "filtered_file"):
        facts[name] = DataFile(**facts[name]) if facts[name] is not None else None
    if facts["data"] is None or facts["metadata"] is None:
        raise TypeError("a shard has no file")
    return CommitRecord(ShardResult(**facts), plan_id, revision, write_id)

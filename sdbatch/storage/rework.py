"""A rework: committed shards that are made once more, by a retry or a repair.

Records never change, so a shard is made good by a record of the next revision. Which shards
and which revisions is written down once, before any file of it is uploaded, under the number
of the success record that will close it. Until that stands the rework is open: whoever
comes along goes on with it, and gc deletes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sdbatch.errors import DamagedError
from sdbatch.records import Redo
from sdbatch.storage import layout
from sdbatch.storage.record import PROTOCOL, read_current, to_line
from sdbatch.storage.store import Store


@dataclass(frozen=True, slots=True)
class Rework:
    """What a rework record says.

    Attributes:
        number: That of the success record that closes it, from 1.
        redo: Which pictures are drawn again.
        shards: Shard to the revision that is to be made of it.
        created_at: UTC; for people only.
    """

    number: int
    redo: Redo
    shards: Mapping[int, int]
    plan_id: str
    created_at: str

    @property
    def word(self) -> str:
        """What people call it: `repair` of damaged files, otherwise `retry`."""
        return "repair" if self.redo.kind == "damaged" else "retry"

    def command(self, url: str, run: str = layout.MAIN) -> str:
        """The command that goes on with it."""
        named = [] if run == layout.MAIN else ["--run", run]
        return shlex.join(["sdbatch", self.word, url, *named])

    def left(self, revisions: Mapping[int, int]) -> dict[int, int]:
        """Those of its shards that do not stand at their revision yet, given what stands."""
        return {
            shard_id: target
            for shard_id, target in self.shards.items()
            if revisions.get(shard_id, -1) < target
        }

    def to_line(self) -> bytes:
        """The record's bytes."""
        shards = {str(shard_id): self.shards[shard_id] for shard_id in sorted(self.shards)}
        return to_line({"protocol": PROTOCOL, **asdict(self), "shards": shards})


def rework_numbers(store: Store, run: str) -> list[int]:
    """Numbers of all reworks that were ever begun, rising."""
    keys = (info.key for info in store.list(layout.reworks_prefix(run)))
    return sorted(number for key in keys if (number := layout.parse_rework(key)) is not None)


def read_rework(store: Store, run: str, number: int) -> Rework:
    """Read one rework record.

    Raises:
        ObjectNotFoundError: There is none.
        DamagedError: It is no rework record.
        InputError: It was written by a later version.
    """
    key = layout.rework_key(run, number)
    body = read_current(store, key)
    try:
        return _parse(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(store.join(key), "it is no rework record") from error


def _parse(body: Mapping[str, Any]) -> Rework:
    redo = body["redo"]
    reseed = redo["reseed"]
    return Rework(
        number=int(body["number"]),
        redo=Redo(
            kind=str(redo["kind"]),
            error_types=tuple(str(name) for name in redo["error_types"]),
            reseed=None if reseed is None else int(reseed),
        ),
        shards={int(shard_id): int(target) for shard_id, target in body["shards"].items()},
        plan_id=str(body["plan_id"]),
        created_at=str(body["created_at"]),
    )

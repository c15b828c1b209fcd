"""What drivers and workers wrote down, read again from storage alone.

Every writer's pieces are read one after the other and merged by time, so that memory holds a
piece of each writer and no more, however long the night was. Clocks of machines differ: lines
of two machines may stand in the wrong order by as much.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from sdbatch.audit.clock import parsed_time
from sdbatch.audit.plain_text import plain
from sdbatch.engine.log_file import LEVELS
from sdbatch.engine.request import refuse_unknown
from sdbatch.errors import InputError, ObjectNotFoundError
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store

LATEST, ALL = "latest", "all"
FIRST_BYTES = 64 * 1024
_SHOWN_APART = {"at", "level", "event", "message", "traceback"}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log.

    Attributes:
        session: The call of `render` it belongs to, as its token.
        writer: `driver`, or a worker's name.
        body: The line as it was written: `at`, `level`, `event`, `message` and its facts.
    """

    session: str
    writer: str
    body: Mapping[str, Any]

    @property
    def at(self) -> str:
        """When it was written, UTC, by the writer's clock; empty when unreadable."""
        return str(self.body.get("at", ""))

    def to_json(self) -> dict[str, Any]:
        """All that is known, as `logs --json` prints it."""
        return {**self.body, "session": self.session, "writer": self.writer}

    def describe(self) -> str:
        """The line for people, in local time; a traceback follows below it."""
        moment = parsed_time(self.at)
        clock = moment.astimezone().strftime("%d %b %H:%M:%S") if moment else "?"
        said = plain(str(self.body.get("message", "")))
        facts = "  ".join(
            f"{plain(name)}={plain(_short(value))}"
            for name, value in self.body.items()
            if name not in _SHOWN_APART and not (name == "worker" and value == self.writer)
        )
        level, event = (plain(str(self.body.get(name, ""))) for name in ("level", "event"))
        parts = [f"{clock} {level:7} {self.writer:6} {event}", said and f": {said}"]
        trace = str(self.body.get("traceback", "")).rstrip().splitlines()
        below = "".join(f"\n    {plain(line)}" for line in trace)
        return "".join(parts) + (f"  [{facts}]" if facts else "") + below


class LogOptions(TypedDict, total=False):
    """Which lines are wanted; what is left out asks for all, of `session` for the latest.

    `shard`, `row`: about this one. `worker`: of or about it. `level`: at least this serious,
    one of `LEVELS`. `session`: `latest`, `all`, or the name of one call of `render`. `tail`:
    only the last so many.
    """

    shard: int | None
    row: int | None
    worker: str | None
    level: str
    session: str
    tail: int | None


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines are wanted; None asks for all.

    Attributes:
        worker: What this worker wrote, and what others say of it.
        level: At least this serious.
    """

    shard: int | None = None
    row: int | None = None
    worker: str | None = None
    level: str = "info"

    def wants(self, writer: str, body: Mapping[str, Any]) -> bool:
        """Whether a line passes."""
        level = body.get("level")
        if level in LEVELS and LEVELS.index(level) < LEVELS.index(self.level):
            return False
        if self.worker is not None and self.worker not in (writer, body.get("worker")):
            return False
        wanted = (("shard", self.shard), ("row", self.row))
        return all(value is None or body.get(name) == value for name, value in wanted)


@dataclass(frozen=True, slots=True)
class _Session:
    """The pieces of one session: writer to keys in order."""

    name: str
    writers: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


def read_logs(
    store: Store, run: str = layout.MAIN, **wanted: Unpack[LogOptions]
) -> Iterator[LogLine]:
    """Lines of the logs of a run, oldest first.

    Args:
        wanted: Which lines, see `LogOptions`.

    Raises:
        InputError: There is no such session, or no run at all.
    """
    names = LogFilter.__slots__
    told: dict[str, Any] = {name: value for name, value in wanted.items() if name in names}
    chosen = LogFilter(**told)
    if chosen.level not in LEVELS:
        raise InputError(f"level {chosen.level!r}: one of {', '.join(LEVELS)}")
    refuse_unknown(wanted, LogOptions.__annotations__)
    tail = wanted.get("tail")
    sessions = _choose(store, run, wanted.get("session", LATEST))
    lines = (line for one in sessions for line in _merged(store, one, chosen))
    return iter(lines if tail is None else deque(lines, maxlen=max(tail, 0)))


def _choose(store: Store, run: str, wanted: str) -> list[_Session]:
    """The sessions that are meant, in the order in which they began."""
    found: dict[str, _Session] = {}
    for info in store.list(layout.logs_prefix(run)):
        parsed = layout.parse_log(info.key)
        if parsed:
            name, writer, number = parsed
            pieces = found.setdefault(name, _Session(name)).writers.setdefault(writer, [])
            pieces.append((number, info.key))
    if not found:
        if RunFolder(store, run).read_job() is None:
            raise InputError(
                f"{store.url}: holds no run '{run}', name the output of sdbatch render"
            )
        return []
    if wanted not in (LATEST, ALL):
        if wanted not in found:
            known = ", ".join(sorted(found)[:8])
            raise InputError(f"session {wanted!r} of {store.url}: there are {known}")
        return [found[wanted]]
    if len(found) == 1:
        return list(found.values())
    in_order = sorted(found.values(), key=lambda one: _began(store, one))
    return in_order if wanted == ALL else in_order[-1:]


def _began(store: Store, session: _Session) -> str:
    """When a session's first line was written; its driver speaks first."""
    writer = "driver" if "driver" in session.writers else min(session.writers)
    _, key = min(session.writers[writer])
    try:
        with store.open(key) as source:
            return str(_parsed(source.readline(FIRST_BYTES)).get("at", ""))
    except ObjectNotFoundError:
        return ""


def _merged(store: Store, session: _Session, wanted: LogFilter) -> Iterator[LogLine]:
    streams = [
        _lines(store, session.name, writer, [key for _, key in sorted(pieces)], wanted)
        for writer, pieces in sorted(session.writers.items())
    ]
    return heapq.merge(*streams, key=lambda line: line.at)


def _lines(
    store: Store, session: str, writer: str, keys: Iterable[str], wanted: LogFilter
) -> Iterator[LogLine]:
    """The wanted lines of one writer, a piece at a time."""
    for key in keys:
        try:
            piece = store.get(key)
        except ObjectNotFoundError:  # tidied away meanwhile
            continue
        bodies = [
            body for text in piece.splitlines() if wanted.wants(writer, body := _parsed(text))
        ]
        del piece
        for body in sorted(bodies, key=lambda body: str(body.get("at", ""))):
            yield LogLine(session, writer, body)


def _parsed(text: bytes) -> dict[str, Any]:
    """A line as it was written; one that is no JSON object says so."""
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"level": "warning", "event": "unreadable"}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:197]}..."

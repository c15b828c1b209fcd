"""What a driver or worker writes down for the morning after: JSON lines, capped, in storage.

A line is {at, level, event, message, ...}, with shard, row, attempt and worker where they
are known. Lines gather in a piece that is rewritten until it is full: every 30 s, at the end,
and soon after the first line and after errors, so that a process that is killed loses half a
minute at most. A log serves people alone: a store that fails costs lines and ends nothing.
What the driver says is in `log_lines.py`.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sdbatch.credentials import redact
from sdbatch.errors import StorageError
from sdbatch.storage import layout
from sdbatch.storage.store import Store

LEVELS = ("debug", "info", "warning", "error")
HELD_BACK = {"debug": 1.0, "info": 1.0, "warning": 0.5}
"""Share of the last piece that lines of a level may not use: the worst news come last."""
FLUSH_EVERY_S = 30.0
HURRY_S = 1.0  # after the first line, and after an error: it may be a process's last word
PIECE_BYTES = 256 * 1024 - 512  # and the line that says that the log is full
WRITER_BYTES = 8 * 1024 * 1024
TEXT_CHARS = 16_000
LINE_BYTES = 64 * 1024
FULL_BYTES = 512
CLOSE_S = 10.0


class LogFile:
    """The log of one writer. Any thread may call; nothing here raises for a failing store.

    Args:
        session: The run's token; workers are told the same.
        writer: `driver`, or a worker's name.
        piece_bytes: Longest piece, in bytes.
        writer_bytes: All that this writer may store; the last of it is kept for what is
            serious, see `HELD_BACK`.

    Attributes:
        lost: Lines that could not be stored when the log was closed.
        left_out: Lines beyond the cap; the last line of the log says how many.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        session: str,
        writer: str,
        *,
        every_s: float = FLUSH_EVERY_S,
        piece_bytes: int = PIECE_BYTES,
        writer_bytes: int = WRITER_BYTES,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        layout.log_key(run, session, writer, 0)  # a bad name is refused here, not in a thread
        self._store, self._now, self._every_s = store, now, every_s
        self._name = (run, session, writer)
        self._piece_bytes, self._room = piece_bytes, writer_bytes - FULL_BYTES
        self.lost = self.left_out = 0
        self._pieces: dict[int, list[bytes]] = {}  # not stored, or not as they are now
        self._number, self._size = 0, 0  # of the piece that still grows
        self._growing: list[bytes] = []
        self._stored: dict[int, int] = {}  # lines of these pieces that the store has
        # A signal handler may speak while its own thread does: re-entrant.
        self._lock, self._writing = threading.RLock(), threading.Lock()
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def say(self, event: str, message: str = "", level: str = "info", **facts: Any) -> None:
        """Write a line down; it is stored within `FLUSH_EVERY_S`.

        Args:
            event: One word or a few with underscores, by which lines are found.
            message: For people, in one line.
            level: One of `LEVELS`.
            facts: What else is known; None is left out.
        """
        line = _line(self._now(), event, message, level, facts)
        with self._lock:
            if self._stop.is_set():
                self.lost += 1
                return
            if len(line) > self._room - int(HELD_BACK.get(level, 0.0) * self._piece_bytes):
                self.left_out += 1
                self._pieces.setdefault(self._number, self._growing)
            else:
                self._append(line)
            self._start()
        if level == "error":
            self._wake.set()

    def flush(self) -> None:
        """Store what is not stored yet; what the store refuses is tried again next time."""
        with self._writing:
            self._store_pieces()

    def close(self) -> None:
        """Store the rest and end; safe to repeat. Takes `CLOSE_S` at most beside one write."""
        self._stop.set()
        self._wake.set()
        if not self._writing.acquire(timeout=CLOSE_S):  # a store that hangs keeps its lines
            self._count_lost()
            return
        try:
            self._store_pieces()
        finally:
            self._writing.release()
        self._count_lost()

    def _append(self, line: bytes) -> None:
        """Add a line to the growing piece, or begin the next one; the lock is held."""
        if self._growing and self._size + len(line) > self._piece_bytes:
            self._number, self._size, self._growing = self._number + 1, 0, []
        self._growing.append(line)
        self._size += len(line)
        self._room -= len(line)
        self._pieces[self._number] = self._growing

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_flushing, name="log", daemon=True)
            self._thread.start()

    def _keep_flushing(self) -> None:
        pause_s = min(HURRY_S, self._every_s)  # that a run which dies young has a log at all
        while not self._stop.is_set():
            self._wake.wait(pause_s)
            self._wake.clear()
            if not self._stop.is_set():
                self.flush()
                self._stop.wait(HURRY_S)  # errors in a row share a write
            pause_s = self._every_s

    def _store_pieces(self) -> None:
        with self._lock:
            waiting = {number: (len(lines), self._body(number, lines), self.left_out)
                       for number, lines in self._pieces.items()}  # fmt: skip
        for number, (length, body, left_out) in waiting.items():
            try:
                self._store.put(layout.log_key(*self._name, number), body)
            except StorageError:
                return
            with self._lock:
                self._stored[number] = length
                unchanged = number < self._number or left_out == self.left_out
                if unchanged and len(self._pieces.get(number, ())) == length:
                    self._pieces.pop(number, None)
                    if number < self._number:
                        del self._stored[number]

    def _body(self, number: int, lines: list[bytes]) -> bytes:
        """The bytes of a piece; the last one tells what was left out."""
        body = b"".join(lines)
        if not self.left_out or number != self._number:
            return body
        message = f"the log is full: {self.left_out:,} further lines are left out"
        return body + _line(self._now(), "log_full", message, "warning", {"lines": self.left_out})

    def _count_lost(self) -> None:
        with self._lock:
            self.lost += sum(
                len(lines) - self._stored.get(n, 0) for n, lines in self._pieces.items()
            )
            self._pieces.clear()


def _line(now: datetime, event: str, message: str, level: str, facts: Mapping[str, Any]) -> bytes:
    """One line of JSON in ASCII, secrets out, no longer than `LINE_BYTES`."""
    head = {"at": now.isoformat(timespec="milliseconds"), "level": level, "event": event}
    said = {"message": _plain(message)} if message else {}
    known = {name: _plain(value) for name, value in facts.items() if value is not None}
    body = _encoded({**head, **said, **known})
    if len(body) > LINE_BYTES:
        body = _encoded({**head, "message": _short(said.get("message", ""), 1000), "cut": True})
    return body


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    """Values that JSON holds, secrets out; anything else as its text."""
    if isinstance(value, str):
        return redact(_short(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): _plain(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inside) for inside in value]
    return redact(_short(str(value)))


def _short(text: str, chars: int = TEXT_CHARS) -> str:
    """A text, or its beginning and its end."""
    half = chars // 2
    return text if len(text) <= chars else f"{text[:half]} ... {text[-half:]}"

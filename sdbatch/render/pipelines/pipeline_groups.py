"""Rows that wait for a call: gathered by what they must share, full groups first.

A short group is padded, so it costs what a full one does. While more rows may come it waits
for a little, a tenth of what the last call took; a group whose turn has been taken too often
goes as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from sdbatch.records import RenderRow
from sdbatch.render.pipelines.pipeline_call import Alike, alike_of

LOOK_AHEAD = 64
"""Rows that may wait at least, however few a call draws."""
CALLS_AHEAD = 8
PATIENCE = 16
"""Calls that may overtake the oldest row."""
WAIT_SHARE = 0.1

Places = Callable[[RenderRow], int]
"""How many rows like this one a call draws."""


class Groups:
    """A bounded look-ahead into the feed of one `render` call.

    Args:
        rows: The feed; None says that no row is there right now.
        places: How many rows like this one a call draws.
        clock: Seconds.
    """

    def __init__(
        self,
        rows: Iterable[RenderRow | None],
        places: Places,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feed: Iterator[RenderRow | None] = iter(rows)
        self._places, self._clock = places, clock
        self._waiting: dict[Alike, list[RenderRow]] = {}
        self._room = LOOK_AHEAD
        self._overtaken = 0
        self._short_since: float | None = None
        self.call_seconds = 0.0
        """What the last call took; whoever calls says so."""
        self.exhausted = False

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self) -> list[RenderRow]:
        """Rows for the next call; empty when none waits, or a short group should wait longer."""
        self._pull()
        if not self._waiting:
            return []
        oldest, full = next(iter(self._waiting)), self._full
        if full is None and self._may_fill():
            return []
        self._short_since = None
        chosen = oldest if full is None or self._overtaken >= PATIENCE else full
        self._overtaken = self._overtaken + 1 if chosen != oldest else 0
        return self._drop(chosen)

    def close(self) -> None:
        """Ask the feed no more, and let go of the rows that wait."""
        self.exhausted = True
        self._waiting.clear()

    def _drop(self, alike: Alike) -> list[RenderRow]:
        rows = self._waiting.pop(alike)
        places = self._places(rows[0])
        if rows[places:]:
            self._waiting[alike] = rows[places:]
        return rows[:places]

    def _pull(self) -> None:
        """Fill one group and no more, for what is pulled must be drawn before a worker may end."""
        while not (self.exhausted or self._full is not None or len(self) >= self._room):
            try:
                row = next(self._feed)
            except StopIteration:
                self.exhausted = True
                return
            if row is None:
                return
            self._waiting.setdefault(alike_of(row), []).append(row)
            self._room = max(self._room, CALLS_AHEAD * self._places(row))

    @property
    def _full(self) -> Alike | None:
        """The first group that a call would draw without padding."""
        for alike, rows in self._waiting.items():
            if len(rows) >= self._places(rows[0]):
                return alike
        return None

    def _may_fill(self) -> bool:
        """Whether to give the feed a little longer before a short group is drawn."""
        if self.exhausted or len(self) >= self._room:
            return False
        now = self._clock()
        self._short_since = self._short_since or now
        return now - self._short_since < WAIT_SHARE * self.call_seconds

"""Rows that were pulled and have no lane yet.

Rows of one picture size run together, so rows of another size wait here while lanes are
full of the first. The room is small: when it is full of other sizes, the lanes run dry,
and the size of the oldest waiting row comes next. Neither torch nor models here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sdbatch.records import RenderRow

LOOK_AHEAD = 16
PATIENCE = 256
"""Rows that may overtake a row of another size before the lanes are emptied for it."""

Size = tuple[int, int]


def size_of(row: RenderRow) -> Size:
    """(width, height) in pixels: what rows must share to run together."""
    return (row.width_px, row.height_px)


class Waiting:
    """A bounded look-ahead into the feed of one `render` call."""

    def __init__(self, rows: Iterable[RenderRow | None], look_ahead: int = LOOK_AHEAD) -> None:
        self._feed: Iterator[RenderRow | None] = iter(rows)
        self._look_ahead = look_ahead
        self._rows: list[RenderRow] = []
        self._overtaken = 0
        self.exhausted = False

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def prompts(self) -> list[str]:
        """Prompts of the waiting rows, oldest first."""
        return [prompt for row in self._rows for prompt in (row.prompt, row.negative_prompt)]

    @property
    def next_size(self) -> Size | None:
        """Size of the oldest waiting row; None when nothing waits."""
        return size_of(self._rows[0]) if self._rows else None

    def pull(self) -> None:
        """Fill the look-ahead until the feed says that no row is there right now."""
        while not self.exhausted and len(self._rows) < self._look_ahead:
            try:
                row = next(self._feed)
            except StopIteration:
                self.exhausted = True
                return
            if row is None:
                return
            self._rows.append(row)

    def take(self, size: Size) -> RenderRow | None:
        """The oldest waiting row of that size; None when the lanes should run dry instead."""
        for index, row in enumerate(self._rows):
            if size_of(row) != size:
                continue
            if index:
                if self._overtaken >= PATIENCE:
                    return None
                self._overtaken += 1
            else:
                self._overtaken = 0
            return self._rows.pop(index)
        return None

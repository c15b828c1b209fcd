"""Rows that were pulled and have no lane yet.

Rows of one kind run together: one picture size, prompts of equally many chunks, and one
setting where the scheduler is no table. So rows of another kind wait here while lanes are
full of the first. The room is small: when it is full of other kinds, the lanes run dry, and
the kind of the oldest waiting row comes next. A row's kind may take a while to find out; rows
whose kind is known go by meanwhile. Neither torch nor models here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from sdbatch.records import RenderRow

LOOK_AHEAD = 16
PATIENCE = 256
"""Rows that may overtake a row of another kind before the lanes are emptied for it."""

Size = tuple[int, int]
Setting = tuple[str, str, int, bool]
"""Scheduler, its configuration, steps, guidance: what rows of a group share."""
Kind = tuple[Size, Setting | None, int]
"""What rows must share to run together; no setting for those whose scheduler is a table. The
number is that of their prompts' chunks: conditioning of another length is another shape."""


class KindOf(Protocol):
    """Tells what a row must share with others to run beside them."""

    def __call__(self, row: RenderRow, wait: bool) -> Kind | None:
        """The row's kind; None where it is not known yet and nobody waits for it."""
        ...


def size_of(row: RenderRow) -> Size:
    """(width, height) in pixels."""
    return (row.width_px, row.height_px)


def size_alone(row: RenderRow, wait: bool = True) -> Kind:  # noqa: ARG001  # a `KindOf`
    """The kind of a row whose scheduler is a table."""
    return (size_of(row), None, 1)


class Waiting:
    """A bounded look-ahead into the feed of one `render` call."""

    def __init__(
        self,
        rows: Iterable[RenderRow | None],
        look_ahead: int = LOOK_AHEAD,
        kind_of: KindOf = size_alone,
    ) -> None:
        self._feed: Iterator[RenderRow | None] = iter(rows)
        self._look_ahead, self._kind_of = look_ahead, kind_of
        self._rows: list[RenderRow] = []
        self._overtaken = 0
        self.exhausted = False

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, syntax: str) -> list[RenderRow]:
        """The waiting rows whose prompts are read in this way, oldest first."""
        return [row for row in self._rows if row.prompt_syntax == syntax]

    @property
    def next_kind(self) -> Kind | None:
        """Kind of the oldest waiting row; None when nothing waits."""
        return self._kind_of(self._rows[0], True) if self._rows else None

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
            self._kind_of(row, False)  # what takes long begins now
            self._rows.append(row)

    def close(self) -> None:
        """Ask the feed no more, and let go of the rows that wait."""
        self.exhausted = True
        self._rows.clear()

    def take(self, kind: Kind, wait: bool = True) -> RenderRow | None:
        """The oldest waiting row of that kind; None when the lanes should run dry instead.

        Args:
            wait: Find out every row's kind first, rather than pass over those unknown.
        """
        for index, row in enumerate(self._rows):
            if self._kind_of(row, wait) != kind:
                continue
            if index:
                if self._overtaken >= PATIENCE:
                    return None
                self._overtaken += 1
            else:
                self._overtaken = 0
            return self._rows.pop(index)
        return None

"""Where a row of a frozen manifest comes from: the file and line that a person can look at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from sdbatch.errors import ManifestError


@dataclass(frozen=True)
class Origin:
    """The files that rows were read from.

    Attributes:
        files: In row order, as a person would open them.
        starts: The row that each begins with.
        line_of: The line that a row begins at; 0 where there are none.
    """

    files: tuple[str, ...]
    starts: tuple[int, ...]
    line_of: Callable[[int], int]

    def file(self, row: int) -> str:
        """The file that a row lies in."""
        return self.files[bisect_right(self.starts, row) - 1]

    def placed(self, problem: ManifestError) -> ManifestError:
        """The same problem, with the file and line of its row."""
        if problem.row < 0:
            return problem
        line = self.line_of(problem.row)
        file = self.file(problem.row) + (f", line {line}" if line else "")
        return ManifestError(file, problem.row, problem.column, problem.value, problem.reason)

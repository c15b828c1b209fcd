"""How a run ended, left behind for those who ask later.

`progress.json` gets one more field, `ended`: {"exit_code", "reason", "at"}: the code that
the command returned, one line that says why (empty when all is done), and when, in UTC. A
driver that was killed leaves none; the next driver's progress has none until it ends too.
Advisory like the whole file: that a run is finished, its success record says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sdbatch.credentials import redact
from sdbatch.engine.summary import Summary
from sdbatch.errors import InputError, LeaseHeldError, SdbatchError, StorageError
from sdbatch.storage.commit import RunFolder


@dataclass
class LastWord:
    """Takes the summary of a call on its way out."""

    _summary: list[Summary] = field(default_factory=list)

    def of(self, summary: Summary) -> Summary:
        """Note how the call came out; returns the same summary."""
        self._summary.append(summary)
        return summary

    @property
    def ended(self) -> tuple[int, str] | None:
        """Exit code and reason; None before there is a summary."""
        summary = self._summary[-1] if self._summary else None
        return (summary.exit_code, summary.reason) if summary else None


@contextmanager
def last_word(folder: RunFolder) -> Iterator[LastWord]:
    """Write down how the block ended: by its summary, or by the error that left it.

    What was refused (`InputError`) began nothing, and where another driver took over
    (`LeaseHeldError`) the file is its own: both leave no word.
    """
    word = LastWord()
    try:
        yield word
    except (InputError, LeaseHeldError):
        raise
    except SdbatchError as error:
        _write(folder, error.exit_code, str(error))
        raise
    if word.ended is not None:
        _write(folder, *word.ended)


def _write(folder: RunFolder, exit_code: int, reason: str) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    with suppress(StorageError):  # a store that fails may be the very reason
        said = folder.read_progress() or {}
        said.pop("at", None)
        ended = {"exit_code": exit_code, "reason": redact(reason), "at": at}
        folder.write_progress({**said, "ended": ended})

"""A run looked at again and again, without reading all of its records each time.

Between whole looks the driver's progress file alone is read: it says how many pictures are
done and what the workers do. It decides nothing: that a run has ended is said by a whole look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sdbatch.audit.across import latest_run
from sdbatch.audit.clock import age_s
from sdbatch.audit.status import FRESH_S, Status, read_status
from sdbatch.engine.nightly import run_of
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store

WHOLE_EVERY_S = 30.0
SPARING = 4.0
"""A whole look begins no sooner than so many times its own length after the last one."""
_WORKERS = ("workers_up", "workers_wanted", "workers_starting", "in_flight")


class Watch:
    """Looks at one run.

    Args:
        store: The dataset.
        run: Its name; None takes the run that was driven last.
        clock: Seconds that only grow.
        look: How a whole look is taken.
    """

    def __init__(
        self,
        store: Store,
        run: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        look: Callable[[Store, str], Status] = read_status,
    ) -> None:
        self._store, self._clock, self._take = store, clock, look
        self._run = latest_run(store) if run is None else run_of(store, run)
        self._last: Status | None = None
        self._at = self._took = 0.0

    def look(self) -> Status:
        """How the run stands now.

        Raises:
            InputError: There is no run.
            DamagedError: Its job or a record cannot be read.
        """
        since = self._clock() - self._at
        if self._last is not None and since < SPARING * self._took:
            return self._quick(self._last) or self._last
        quick = self._quick(self._last) if self._last and since < WHOLE_EVERY_S else None
        return quick or self._whole()

    @property
    def ended(self) -> bool:
        """Whether nobody works on it any more, by the last whole look."""
        return self._last is not None and self._last.state not in ("running", "starting")

    def _whole(self) -> Status:
        began = self._clock()
        self._last = self._take(self._store, self._run)
        self._at = self._clock()
        self._took = self._at - began
        return self._last

    def _quick(self, last: Status) -> Status | None:
        """The last look with what the driver says by now; None where it cannot tell."""
        now = datetime.now(UTC)
        said = RunFolder(self._store, self._run).read_progress() or {}
        spoke = age_s(said.get("at"), now) <= FRESH_S and "ended" not in said
        if last.state != "running" or not spoke:
            return None
        workers: dict[str, Any] = {name: said.get(name) for name in _WORKERS}
        paused = str(said.get("paused") or "")
        if last.rework is not None:  # its figures count what is drawn again
            return replace(last, paused=paused, **workers)
        counts = [said.get(name) for name in ("done", "failed", "shards_done", "finished")]
        if not all(isinstance(count, int) for count in counts):
            return None
        return _counted(last, said, now, paused, workers)


def _counted(
    last: Status, said: dict[str, Any], now: datetime, paused: str, workers: dict[str, Any]
) -> Status | None:
    done, failed = int(said["done"]), int(said["failed"])
    if done >= last.images or done < last.images_done:
        return None
    rate = said.get("images_per_s")
    left = last.images - done - int(said["finished"])
    end = (now + timedelta(seconds=max(left, 0) / rate)) if rate else None
    return replace(
        last,
        success=done - failed - last.filtered,
        failed=failed,
        shards_done=int(said["shards_done"]),
        images_per_s=round(rate, 3) if rate else None,
        eta=end.isoformat(timespec="seconds") if end else None,
        driver_seen_at=str(said["at"]),
        paused=paused,
        **workers,
    )

"""A store that fails pauses the whole pool: what breaks one commit breaks the next as well.

While it fails, one lease at a time probes it, after pauses that grow; whoever still draws
goes on and is a probe too. The first commit, or stored part, ends the pause. If only one
shard failed meanwhile, the fault was its own and is counted against it; otherwise against
none. What fails for want of room still takes trifles: there only a commit ends it.

A worker says early that the store fails it; the time counts from its first call that failed,
and goes on where only a part was stored and the store soon fails again. Pure: time
and chance arrive from outside.
"""

from __future__ import annotations

import random

from sdbatch.engine.events import StoreTrouble
from sdbatch.engine.patience import is_full
from sdbatch.engine.watchdog import duration

FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 60.0
LINE_EVERY_S = 30.0
HEARD_LATE_S = 300.0  # a worker waits for the store about as long before it gives a shard up


class Outage:
    """Whether the store fails now, since when, and who tries it next.

    Args:
        give_up_s: How long it may fail before the run is hopeless.
        rng: Source of the jitter in pauses.
        now: The time.
    """

    def __init__(self, give_up_s: float, rng: random.Random, now: float) -> None:
        self._give_up_s, self._rng = give_up_s, rng
        self._worked_at = now
        self._began: float | None = None
        self._since: float | None = None  # the first failure after the last commit
        self._part_at: float | None = None  # a part was stored since
        self._notice = ""
        self._failing: set[int] = set()
        self._probe: tuple[str, int] | None = None
        self._pause_s = FIRST_PAUSE_S
        self._probe_at = 0.0
        self._line_at = 0.0
        self._told = False
        self._relief = ""
        self.message = self.last_message = ""

    @property
    def on(self) -> bool:
        """Whether leases are paused."""
        return self._began is not None

    def trouble(self, said: StoreTrouble, now: float) -> None:
        """A worker waits for the store; its leases stay, and others are still given."""
        self._count_from(now - said.failing_s, now)
        if said.first and not self.message and not self.on:
            self._notice = f"the store fails on {said.worker}: {said.message}; waiting"
        self.message = said.message

    def _count_from(self, since: float, now: float) -> None:
        """The store fails: since then, unless a failure before it was never made good."""
        if self._part_at is not None and now - self._part_at > self._give_up_s:
            self._since = None
        self._part_at = None
        if self._since is None:
            self._since = max(self._worked_at, since)

    def failed(self, worker: str, shard_id: int, message: str, now: float) -> None:
        """An attempt ended because the store failed."""
        self._count_from(now - HEARD_LATE_S, now)
        if self._began is None:
            self._began, self._line_at = self._since, now
            self._notice = ""
            self._failing, self._pause_s, self._told = set(), FIRST_PAUSE_S, False
            self._rest(now)
        elif self._probe == (worker, shard_id):
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._rest(now)
        self._failing.add(shard_id)
        self.message = message

    def worked(self, now: float, commit: bool = True) -> int | None:
        """The store took something: the pause is over.

        Args:
            commit: It was a whole shard, not a part.

        Returns:
            The shard whose own fault it was; None when several failed, or none.
        """
        if not commit and self.message and is_full(self.message):
            return None
        if self._since is not None and self._told:
            self._relief = f"the store works again after {duration(now - self._since)}"
        if commit:
            self._since = None
        else:
            self._part_at = now if self._part_at is None else self._part_at
        self._told, self._notice = False, ""
        failing, self._began, self._probe = self._failing, None, None
        self._worked_at = now
        self._failing, self.last_message, self.message = set(), self.message, ""
        return failing.pop() if len(failing) == 1 else None

    def may_probe(self, now: float) -> bool:
        """Whether a lease may be given as a probe now."""
        return self.on and self._probe is None and now >= self._probe_at

    def probing(self, worker: str, shard_id: int) -> None:
        """This lease is the probe."""
        self._probe = worker, shard_id

    def gone(self, worker: str, shard_id: int, now: float) -> None:
        """A lease ended and said nothing of the store; if it was the probe, another follows."""
        if self._probe == (worker, shard_id):
            self._rest(now)

    def hopeless(self, now: float) -> bool:
        """Whether it has failed for too long; ask when it has just failed again."""
        return self._since is not None and now - self._since >= self._give_up_s

    def reason(self, now: float) -> str:
        """Why the run ends, for people."""
        since = duration(now - (now if self._since is None else self._since))
        return f"the store has failed for {since}, nothing was committed: {self.message}"

    def line(self, now: float) -> str | None:
        """The line due every 30 s while the store fails, and once when it works; else None."""
        if self._began is None and self._relief:
            relief, self._relief = self._relief, ""
            return relief
        if self._notice:
            notice, self._notice, self._told = self._notice, "", True
            return notice
        if self._began is None or now < self._line_at:
            return None
        self._line_at, self._told = now + LINE_EVERY_S, True
        since = duration(now - (self._began if self._since is None else self._since))
        return f"the store fails, no shard is begun until it works again ({since}): {self.message}"

    def _rest(self, now: float) -> None:
        self._probe = None
        self._probe_at = now + self._pause_s * self._rng.uniform(0.75, 1.0)

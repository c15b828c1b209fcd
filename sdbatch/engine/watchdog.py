"""Which workers are stuck: those that are silent, and those that talk but do not move.

Patience is measured: what is long for one run is a single picture in another. Nothing
here ends a worker; `state.py` does, and leases its shards again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

SILENT_S, STALLED_S, PATIENCE = 300.0, 1800.0, 20.0
ENOUGH_SAMPLES = 5
REMEMBERED = 101


def duration(seconds: float) -> str:
    """A duration for people: `45s`, `6m10s`, `30m`, `2h05m`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    if not minutes:
        return f"{rest}s"
    return f"{minutes}m{rest:02d}s" if rest else f"{minutes}m"


@dataclass(slots=True)
class Signs:
    """The signs of life of one worker.

    Attributes:
        heard_at: Of its last one, or of the lease that made it busy.
        changed_at: When its finished pictures last grew in number, or its oldest lease changed.
        moved_at: The same for each shard it holds.
    """

    heard_at: float = 0.0
    changed_at: float = 0.0
    moved_at: dict[int, float] = field(default_factory=dict)

    def fresh(self, now: float) -> None:
        """What it works at has changed: patience begins anew."""
        self.heard_at = self.changed_at = now


class Watchdog:
    """Knows how often workers of this run speak, and how often pictures are finished."""

    def __init__(self) -> None:
        self._pulse_gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._change_gaps: deque[float] = deque(maxlen=REMEMBERED)
        self._shard_gaps: deque[float] = deque(maxlen=REMEMBERED)

    def heard(self, signs: Signs, growth: Mapping[int, int], now: float) -> None:
        """A pulse came.

        Args:
            signs: Of the worker; brought up to date.
            growth: Pictures finished since the pulse before, by shard.
            now: When it came.
        """
        self._pulse_gaps.append(now - signs.heard_at)
        signs.heard_at = now
        for shard_id, grown in growth.items():
            if grown > 0 and shard_id in signs.moved_at:
                self._shard_gaps.append(now - signs.moved_at[shard_id])
                signs.moved_at[shard_id] = now
        if any(grown > 0 for grown in growth.values()):
            self._change_gaps.append(now - signs.changed_at)
            signs.changed_at = now

    def committed(self, signs: Signs, now: float) -> None:
        """A shard is done: pictures were finished, whether or not a pulse told of them."""
        self._change_gaps.append(now - signs.changed_at)

    def hung(self, workers: Iterable[tuple[str, Signs, int]], now: float) -> list[tuple[str, str]]:
        """Workers that are stuck, with the reason.

        A worker that pulses but finishes nothing is judged only once it is known how
        long pictures take here: the first one may need an hour on a CPU.

        Args:
            workers: Name, signs, and the oldest shard held, of those that hold leases.
            now: The time.
        """
        silent_s = max(SILENT_S, PATIENCE * _median(self._pulse_gaps))
        still_s, shard_s = _patience(self._change_gaps), _patience(self._shard_gaps)
        found = []
        for name, signs, oldest in workers:
            stood_s = now - signs.moved_at.get(oldest, now)
            if now - signs.heard_at > silent_s:
                found.append((name, f"silent for {duration(now - signs.heard_at)}"))
            elif now - signs.changed_at > still_s:
                found.append((name, f"no picture for {duration(now - signs.changed_at)}"))
            elif stood_s > shard_s:
                line = f"shard {oldest:05d} stands still for {duration(stood_s)} while others move"
                found.append((name, line))
        return found


def _patience(gaps: deque[float]) -> float:
    return max(STALLED_S, PATIENCE * _median(gaps)) if len(gaps) >= ENOUGH_SAMPLES else float("inf")


def _median(samples: deque[float]) -> float:
    return median(samples) if samples else 0.0

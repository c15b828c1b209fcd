"""How long pictures take here: whether a notice of leaving is worth waiting for them."""

from __future__ import annotations

from collections import deque

from sdbatch.results import RenderedImage, RowFailure

SAMPLES = 200
SHARE = 0.95
STORING_S = 5.0
"""Reserve for a part to be written and stored before the node is gone."""


class PictureTimes:
    """Times of the last pictures of a worker. Threads may add."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=SAMPLES)

    def add(self, result: RenderedImage | RowFailure) -> None:
        """Note a picture; failures say nothing."""
        if isinstance(result, RenderedImage):
            self._seconds.append(result.latency_ms / 1000)

    @property
    def longest_s(self) -> float:
        """What 19 of 20 pictures stay below, and the time to store what is finished."""
        known = sorted(self._seconds.copy())
        return STORING_S + (known[int(SHARE * (len(known) - 1))] if known else 0.0)

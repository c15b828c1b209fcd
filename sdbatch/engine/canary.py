"""The canary: a run whose first pictures are mostly none does not go on to the last.

A wrong number type, a guidance that the model was not made for or half-loaded weights give
thousands of black, blank or equal pictures, each of which is a picture. The first 64 say
so. Workers report a few numbers of what they draw first (`Lookout`), the driver counts
(`Canary`), and a run that is stopped can be resumed with the canary off. Requests are told
apart by their `row_hash`: rows that ask for the same picture rightly get it, and count once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from sdbatch.engine.events import PictureFact
from sdbatch.errors import BlackImageError, NonFiniteError
from sdbatch.results import RenderedImage, RowFailure

WATCHED = 64
"""Pictures of a run that are looked at; more than half of them end it."""

AT_ONCE = 16
"""Facts that a worker gathers before it tells them."""

BLACK, NAN, BLANK, SAME, FAILED = "black", "nan", "blank", "same", "failed"
WORDS: Mapping[str, str] = {
    BLACK: "black",
    NAN: "NaN",
    BLANK: "of one colour",
    SAME: "equal to another one",
}
FLAWS: Mapping[str, str] = {BlackImageError.__name__: BLACK, NonFiniteError.__name__: NAN}
"""Error type of a failed row to what is counted."""


def fact_of(result: RenderedImage | RowFailure) -> PictureFact:
    """What the canary must know of a finished row."""
    request = _bits(result.row.row_hash.encode())
    if isinstance(result, RowFailure):
        return PictureFact(request, 0, FLAWS.get(result.error_type, FAILED))
    pixels = result.pixels
    flaw = BLANK if bool((pixels == pixels[0, 0]).all()) else ""
    return PictureFact(request, _bits(np.ascontiguousarray(pixels).tobytes()), flaw)


def _bits(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


class Lookout:
    """A worker's part: the facts of the first pictures it draws. Any thread may call."""

    def __init__(self) -> None:
        self._left = WATCHED
        self._facts: list[PictureFact] = []
        self._lock = threading.Lock()

    def see(self, result: RenderedImage | RowFailure) -> tuple[PictureFact, ...]:
        """Look at a result; gives facts when enough have gathered."""
        with self._lock:
            if not self._left:
                return ()
            self._left -= 1
        fact = fact_of(result)
        with self._lock:
            self._facts.append(fact)
            return self._take() if len(self._facts) >= AT_ONCE else ()

    def rest(self) -> tuple[PictureFact, ...]:
        """What has gathered since."""
        with self._lock:
            return self._take()

    def _take(self) -> tuple[PictureFact, ...]:
        facts, self._facts = tuple(self._facts), []
        return facts


class Canary:
    """The driver's part: hears the facts of all workers and raises the alarm once.

    Args:
        dtype: Number type the run draws with.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._seen: dict[int, PictureFact] = {}
        self._alarmed = False

    def hear(self, facts: Iterable[PictureFact]) -> str:
        """Count pictures; gives the reason to stop once there is one, in one line."""
        for fact in facts:
            if len(self._seen) < WATCHED:
                self._seen.setdefault(fact.request, fact)
        flaws = self._flaws()
        if self._alarmed or flaws.total() <= WATCHED // 2:
            return ""
        self._alarmed = True
        found = ", ".join(f"{number} {WORDS[flaw]}" for flaw, number in flaws.most_common())
        cause = self._cause(flaws.most_common(1)[0][0])
        return (
            f"canary: of the first {len(self._seen)} pictures {found}; likely cause: {cause}; "
            "--no-canary goes on all the same"
        )

    def _flaws(self) -> Counter[str]:
        copies = Counter(fact.picture for fact in self._seen.values() if not fact.flaw)
        named = (
            fact.flaw or (SAME if copies[fact.picture] > 1 else "") for fact in self._seen.values()
        )
        return Counter(flaw for flaw in named if flaw in WORDS)

    def _cause(self, flaw: str) -> str:
        """What most often lies behind it, and what to try."""
        if flaw in (BLACK, NAN) and self._dtype != "float32":
            return f"{self._dtype} is too narrow, mostly in the VAE (try --dtype float32)"
        if flaw == BLANK:
            return "guidance on a distilled model (try --guidance-scale 1) or broken weights"
        if flaw == SAME:
            return "broken weights, for they follow neither prompt nor seed"
        return "broken weights (look at the model's files)"

"""Actors out of reach: nobody knows whether their process lives.

Their leases have gone elsewhere. One that answers again is asked to put aside what it has
finished, and is ended after that; one that stays silent is ended when its time is over. It
is Ray that ends them: an order to a node out of reach is carried out when it is back.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

PATIENCE_S = 60.0
ASK_EVERY_S = 5.0


@dataclass(slots=True)
class _Suspect:
    """One actor.

    Attributes:
        answer: Comes when the order to drain was taken, then when the work is over.
        answered: It is in reach again and drains.
    """

    actor: Any
    since: float
    answer: Any = None
    asked_at: float = float("-inf")
    answered: bool = False


class Suspects:
    """The suspects of a run; somebody must look after them about once a second."""

    def __init__(self) -> None:
        self._all: list[_Suspect] = []

    def __len__(self) -> int:
        return len(self._all)

    def add(self, actor: Any) -> None:
        """Suspect an actor from now on."""
        self._all.append(_Suspect(actor, monotonic()))

    def look(self, now: float) -> None:
        """See who answers, and end who is through or was silent for too long."""
        for suspect in list(self._all):
            if now - suspect.since > PATIENCE_S or self._is_over(suspect, now):
                self._all.remove(suspect)
                ray.kill(suspect.actor, no_restart=True)

    def kill_all(self) -> None:
        """The run is over."""
        for suspect in self._all:
            ray.kill(suspect.actor, no_restart=True)
        self._all.clear()

    def _is_over(self, suspect: _Suspect, now: float) -> bool:
        if suspect.answer is None:
            if now - suspect.asked_at >= ASK_EVERY_S:
                suspect.asked_at = now
                drain = suspect.actor.drain.options(concurrency_group="ctl")
                suspect.answer = drain.remote()
            return False
        if not ray.wait([suspect.answer], timeout=0, fetch_local=False)[0]:
            return False
        try:
            ray.get(suspect.answer)
        except ActorUnavailableError:
            suspect.answer = None  # ask again later
            return False
        except RayError:
            return True
        if suspect.answered:
            return True
        suspect.answered = True
        # Runs where `work` runs, hence after it: the answer means that all is put aside.
        suspect.answer = suspect.actor.__ray_call__.remote(_done)
        return False


def _done(_worker: object) -> bool:
    return True

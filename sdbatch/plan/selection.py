"""What `--only-new` makes of a manifest: how many rows are new, changed, or stand already."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdbatch.plan.fingerprint import ADDED_LATER, canonical

ONLY_NEW, LEFT_OUT = "only_new", "only_new.left_out"
"""Settings of a plan: against what its rows were compared, and which were left out."""
OUTPUT = "output"
"""Stands for the dataset that is drawn into."""
_DECIDES = ("model.revision", "seed", "task")
_JUDGES = ("filter", "best_of", "best_by", "scorers")
_SHOWN_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Selection:
    """Counts of manifest rows.

    Attributes:
        new: Nothing stands under their id, or with their prompt and seed where they have none.
        changed: Something does, and it was drawn from another request.
        same: Every picture of theirs stands; they are left out.
        differs: What differs between the run of most changed rows and this one.
    """

    new: int
    changed: int
    same: int
    differs: tuple[str, ...] = ()

    @property
    def drawn(self) -> int:
        """Rows that are drawn."""
        return self.new + self.changed

    def describe(self) -> str:
        """One line: `new 1,204 / changed 12 (model revision ab12 -> cd34) / same 9,998,784`."""
        why = f" ({', '.join(self.differs)})" if self.differs and self.changed else ""
        return f"new {self.new:,} / changed {self.changed:,}{why} / same {self.same:,}"

    def to_dict(self) -> dict[str, Any]:
        """As `job.json` and `--json` have it."""
        return {**asdict(self), "differs": list(self.differs)}

    @classmethod
    def of(cls, body: Mapping[str, Any] | None) -> Selection | None:
        """The inverse of `to_dict`; None for none."""
        return None if body is None else cls(**{**body, "differs": tuple(body["differs"])})


def left_out_digest(same: NDArray[np.bool_]) -> str:
    """Hash of the set of rows that are left out; empty when none is.

    Args:
        same: For every row whether it is left out.
    """
    if not same.any():
        return ""
    return hashlib.sha256(canonical(len(same)) + np.packbits(same).tobytes()).hexdigest()


def judged_alike(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two runs keep the same pictures apart, from their resolved settings."""
    was, now = {**ADDED_LATER, **was}, {**ADDED_LATER, **now}
    return all(was.get(key) == now.get(key) for key in _JUDGES)


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What makes every row of two runs another request, from their resolved settings."""
    was, now = {**ADDED_LATER, **was}, {**ADDED_LATER, **now}
    decides = {*_DECIDES, *_JUDGES}
    keys = sorted(key for key in {*was, *now} if key in decides or key.startswith("defaults."))
    for key in sorted(keys, key=lambda key: key != "model.revision"):
        if key in was and key in now and canonical(was[key]) != canonical(now[key]):
            name = key.removeprefix("defaults.").replace(".", " ")
            yield f"{name} {_shown(was[key])} -> {_shown(now[key])}"


def _shown(value: Any) -> str:
    text = str(value) or "''"
    is_hash = len(text) in (40, 64) and set(text) <= set("0123456789abcdef")
    return text[:_SHOWN_DIGITS] if is_hash or len(text) > 48 else text

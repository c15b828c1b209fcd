"""A scorer without weights: a number computed from the picture's bytes, the same every time.

`fake` stands where a model's folder would: plans, filters and resumes can be tried in no
time. `fake:fail=0.1` fails for every tenth picture, `fake:ms=5` takes its time.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sdbatch.errors import ModelError
from sdbatch.model_specs import ScorerSpec
from sdbatch.render.fake import FAKE_PREFIX

_OPTIONS = ("fail", "ms")


class FakeScorer:
    """Says numbers from 0 to 1; as a safety checker it flags half of the pictures."""

    def __init__(self, spec: ScorerSpec) -> None:
        self.name, self.columns, self.revision = spec.name, spec.columns, spec.revision
        self._fail, self._ms = (_options(spec)[name] for name in _OPTIONS)

    def score(
        self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> Mapping[str, list[float | bool | None]]:
        """See `scorers.Scorer.score`."""
        time.sleep(self._ms * len(pictures) / 1000)
        lots = [fake_score(*pair) for pair in zip(pictures, prompts, strict=True)]
        asked = (lot for lot, picture in zip(lots, pictures, strict=True) if picture.any())
        if any(lot < self._fail for lot in asked):  # black is what batches are filled up with
            raise RuntimeError("this picture was chosen to fail")
        if len(self.columns) == 1:
            return {self.columns[0]: list(lots)}
        return {"nsfw": [lot > 0.5 for lot in lots], "nsfw_score": [lot - 0.5 for lot in lots]}


def fake_score(picture: NDArray[np.uint8], prompt: str) -> float:
    """The number of a picture."""
    said = np.ascontiguousarray(picture).tobytes() + prompt.encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:4], "big") / 2.0**32


def _options(spec: ScorerSpec) -> dict[str, float]:
    values = dict.fromkeys(_OPTIONS, 0.0)
    for part in filter(None, spec.path.removeprefix(FAKE_PREFIX).split(",")):
        key, _, text = part.partition("=")
        try:
            if key not in values:
                raise ModelError(f"scorer {spec.model}: no option '{key}', known are fail, ms")
            values[key] = float(text)
        except ValueError as error:
            raise ModelError(f"scorer {spec.model}: {key} must be a number") from error
    return values

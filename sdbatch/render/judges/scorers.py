"""Models that judge finished pictures: CLIP, SigLIP, aesthetic predictors, a safety checker.

A `Panel` asks all scorers of a run together, in batches of a fixed shape that are filled up,
so that what is said of a picture does not depend on its neighbours. Pictures are looked at as
they were drawn, through each model's own preprocessing, and are never changed. A scorer that
fails costs a picture its number and nothing else: the columns stay null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from sdbatch.manifest.prompt_syntax import A1111, parse_prompt
from sdbatch.model_specs import ScorerSpec
from sdbatch.records import RenderRow
from sdbatch.render.judges.fake_scorer import FakeScorer
from sdbatch.render.judges.scorer_facts import AESTHETIC, FAKE, SAFETY, planned_scorer

if TYPE_CHECKING:
    from sdbatch.render.judges.scorer_device import ScorerDevice

Value = float | bool | None
FAULT_CHARS = 300


class Scorer(Protocol):
    """A loaded model that judges pictures.

    Attributes:
        name: As it was asked for.
        columns: What it says, by name.
        revision: Of its weights.
    """

    name: str
    columns: tuple[str, ...]
    revision: str

    def score(
        self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> Mapping[str, list[Value]]:
        """Judge a batch.

        Args:
            pictures: uint8 `[H, W, 3]` each, RGB, of any sizes.
            prompts: What each was drawn for.

        Returns:
            Column to one value per picture; None where there is nothing to say.
        """
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What the scorers said of some pictures.

    Attributes:
        values: Column to value, per picture.
        faults: Why columns are None, per picture; empty where nothing failed.
    """

    values: list[dict[str, Value]]
    faults: list[str]


class Panel:
    """The scorers of a run.

    Args:
        batch_size: Pictures of a batch; shorter ones are filled up.
        device: What it computes on, for records.
        fatal: Errors after which the device is of no use: raised, not borne.
    """

    def __init__(
        self,
        scorers: Sequence[Scorer],
        batch_size: int,
        device: str = "",
        fatal: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.scorers, self.batch_size, self.device = tuple(scorers), batch_size, device
        self._fatal = fatal

    def only(self, places: Sequence[int]) -> Panel:
        """The scorers at these places."""
        chosen = [self.scorers[place] for place in places]
        return Panel(chosen, self.batch_size, self.device, self._fatal)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of all scorers."""
        return tuple(column for scorer in self.scorers for column in scorer.columns)

    def judge(self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Judged:
        """Ask every scorer about up to `batch_size` pictures; see `Scorer.score`."""
        judged = Judged([{} for _ in pictures], ["" for _ in pictures])
        for scorer in self.scorers:
            for place, (value, fault) in enumerate(self._ask(scorer, pictures, prompts)):
                judged.values[place].update(value)
                judged.faults[place] = judged.faults[place] or fault
        return judged

    def _ask(
        self, scorer: Scorer, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> list[tuple[dict[str, Value], str]]:
        try:
            return [(value, "") for value in self._filled_up(scorer, pictures, prompts)]
        except self._fatal:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, no picture is lost over it
            if len(pictures) > 1:  # find those it fails on
                alone = zip(pictures, prompts, strict=True)
                return [self._ask(scorer, [one], [prompt])[0] for one, prompt in alone]
            said = " ".join(f"{scorer.name}: {type(error).__name__}: {error}".split())
            return [(dict.fromkeys(scorer.columns), said[:FAULT_CHARS])]

    def _filled_up(
        self, scorer: Scorer, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> list[dict[str, Value]]:
        padding, blank = self.batch_size - len(pictures), np.zeros((32, 32, 3), np.uint8)
        said = scorer.score([*pictures, *[blank] * padding], [*prompts, *[""] * padding])
        return [
            {name: _finite(said[name][place]) for name in scorer.columns}
            for place in range(len(pictures))
        ]


def load_panel(
    specs: Sequence[ScorerSpec], cpu_threads: int = 1, batch_size: int = 0, device: str = ""
) -> Panel | None:
    """Load the scorers of a run; None when it has none.

    Args:
        specs: As planned; their weights may lie elsewhere on this machine.
        cpu_threads: Threads on a CPU.
        batch_size: Pictures at a time; 0 chooses by device.
        device: As torch calls it; empty for the GPU, where there is one.

    Raises:
        ModelError: A model is not here, not the planned one, or cannot be used.
        DeviceMemoryError: It does not fit.
    """
    if not specs:
        return None
    here = [planned_scorer(spec) for spec in specs]
    if all(spec.kind == FAKE for spec in here):
        return Panel([FakeScorer(spec) for spec in here], batch_size or 4)
    from sdbatch.render.judges.scorer_device import ScorerDevice

    place = ScorerDevice(device, cpu_threads)
    scorers = [_load(spec, place) for spec in here]
    panel = Panel(scorers, batch_size or place.batch_size, place.name, place.fatal)
    place.try_out(panel)
    return panel


def prompt_of(row: RenderRow) -> str:
    """The text that a picture is compared with: the prompt without weights and brackets."""
    return plain_prompt(row.prompt, row.prompt_syntax)


def plain_prompt(prompt: str, syntax: str) -> str:
    """A prompt as a person would read it aloud."""
    if syntax != A1111:
        return prompt
    parts = parse_prompt(prompt).parts
    return " ".join("".join(segment.text for segment in part).strip() for part in parts)


def _load(spec: ScorerSpec, place: ScorerDevice) -> Scorer:
    if spec.kind == FAKE:
        return FakeScorer(spec)
    from sdbatch.render.judges.clip_scorers import AestheticScorer, PairScorer
    from sdbatch.render.judges.safety_scorer import SafetyScorer

    if spec.kind == SAFETY:
        return SafetyScorer(spec, place)
    return AestheticScorer(spec, place) if spec.kind == AESTHETIC else PairScorer(spec, place)


def _finite(value: Value) -> Value:
    return value if isinstance(value, bool) or value is None or math.isfinite(value) else None

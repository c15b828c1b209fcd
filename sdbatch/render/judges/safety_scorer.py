"""diffusers' safety checker, which here says what it sees and leaves the picture alone.

`nsfw` is what diffusers' StableDiffusionSafetyChecker would say, `nsfw_score` the highest of
its concept scores: cosine above the concept's threshold, 0.01 more where one of its three
special concepts is seen, three digits. So `nsfw` is `nsfw_score > 0`, and another threshold
can be set with `--filter "nsfw_score > -0.02"`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diffusers.pipelines.stable_diffusion.safety_checker import (
    StableDiffusionSafetyChecker,
    cosine_distance,
)
from numpy.typing import NDArray

from sdbatch.model_specs import ScorerSpec
from sdbatch.render.judges.scorer_device import IMAGES, ScorerDevice, again_with_memory
from sdbatch.render.judges.scorer_facts import checker_folder

CARE = 0.01


class SafetyScorer:
    """Flags pictures.

    Raises:
        ModelError: The folder is no safety checker.
    """

    def __init__(self, spec: ScorerSpec, place: ScorerDevice) -> None:
        self.name, self.columns, self.revision = spec.name, spec.columns, spec.revision
        folder = Path(spec.path)
        self._place = place
        self._model: Any = place.load(
            spec.model,
            StableDiffusionSafetyChecker,
            checker_folder(folder),
            attn_implementation="eager",
        )
        places = (folder / "feature_extractor", checker_folder(folder))
        there = [each for each in places if each.is_dir()]
        self._images = place.processor(spec.model, IMAGES, *there)

    def score(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        prompts: Sequence[str],  # noqa: ARG002  # a picture is judged by itself
    ) -> Mapping[str, list[float | bool | None]]:
        """See `scorers.Scorer.score`."""
        scores = again_with_memory(self._scores)(pictures)
        return {"nsfw": [score > 0 for score in scores], "nsfw_score": scores}

    def _scores(self, pictures: Sequence[NDArray[np.uint8]]) -> list[float]:
        model = self._model
        with self._place.computing():
            seen = model.vision_model(**self._place.pixels(self._images, pictures))
            embeds = model.visual_projection(seen.pooler_output).float()
            special = cosine_distance(embeds, model.special_care_embeds.float())
            concepts = cosine_distance(embeds, model.concept_embeds.float())
            special = (special - model.special_care_embeds_weights).cpu().numpy()
            concepts = (concepts - model.concept_embeds_weights).cpu().numpy()
        care = CARE * (special.round(3) > 0).any(axis=1, keepdims=True)
        return [float(score) for score in (concepts + care).round(3).max(axis=1)]

"""Scorers that compare pictures with words, or with taste, in the space of a CLIP.

`clip`: the cosine of picture and prompt, from -1 to 1; what the literature calls CLIPScore is
2.5 times that where it is positive (Hessel et al., 2021). `siglip`: the probability from 0 to
1 that picture and prompt belong together (Zhai et al., 2023). `aesthetic`: LAION's
predictors, a few linear layers over the normalised embedding of the picture, about 1 to 10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sdbatch.errors import ModelError
from sdbatch.model_specs import ScorerSpec
from sdbatch.render.judges.scorer_device import IMAGES, TOKENS, ScorerDevice, again_with_memory
from sdbatch.render.judges.scorer_facts import SIGLIP, head_file

Values = Mapping[str, list[float | bool | None]]


class PairScorer:
    """CLIP or SigLIP: how well a picture fits its prompt. Rows without words get None.

    Raises:
        ModelError: The folder is no such model.
    """

    def __init__(self, spec: ScorerSpec, place: ScorerDevice) -> None:
        self.name, self.columns, self.revision = spec.name, spec.columns, spec.revision
        folder = Path(spec.path)
        self._place, self._is_siglip = place, spec.kind == SIGLIP
        self._model = place.load(spec.model, transformers.AutoModel, folder)
        self._images = place.processor(spec.model, IMAGES, folder)
        self._tokens = place.processor(spec.model, TOKENS, folder)
        self._length = int(self._model.config.text_config.max_position_embeddings)

    def score(self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Values:
        """See `scorers.Scorer.score`."""
        numbers = again_with_memory(self._numbers)(pictures, prompts)
        pairs = zip(numbers, prompts, strict=True)
        return {self.columns[0]: [number if text.strip() else None for number, text in pairs]}

    def _numbers(
        self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]
    ) -> list[float]:
        with self._place.computing():
            said = self._model(**self._words(prompts), **self._place.pixels(self._images, pictures))
            image = functional.normalize(said.image_embeds.float(), dim=-1)
            text = functional.normalize(said.text_embeds.float(), dim=-1)
            fit = (image * text).sum(-1)
            if self._is_siglip:
                fit = (self._model.logit_scale.exp() * fit + self._model.logit_bias).sigmoid()
            return [float(value) for value in fit.cpu()]

    def _words(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Prompts as tokens, cut and filled up to the model's length."""
        made = self._tokens(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        # SigLIP was trained to see the padding.
        names = ("input_ids",) if self._is_siglip else ("input_ids", "attention_mask")
        return {name: made[name].to(self._place.device) for name in names}


class AestheticScorer:
    """A CLIP's embedding of the picture, and LAION's head over it.

    Raises:
        ModelError: The head does not fit the CLIP, or is none.
    """

    def __init__(self, spec: ScorerSpec, place: ScorerDevice) -> None:
        self.name, self.columns, self.revision = spec.name, spec.columns, spec.revision
        folder = Path(spec.path)
        self._place = place
        kind = transformers.CLIPVisionModelWithProjection
        self._model = place.load(spec.model, kind, folder)
        self._images = place.processor(spec.model, IMAGES, folder)
        width = int(self._model.config.projection_dim)
        self._layers = [
            (weight.to(place.device), bias.to(place.device))
            for weight, bias in read_head(spec.model, folder, width)
        ]

    def score(self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> Values:  # noqa: ARG002  # taste asks for no words
        """See `scorers.Scorer.score`."""
        return {self.columns[0]: again_with_memory(self._numbers)(pictures)}

    def _numbers(self, pictures: Sequence[NDArray[np.uint8]]) -> list[float]:
        with self._place.computing():
            said = self._model(**self._place.pixels(self._images, pictures))
            value = functional.normalize(said.image_embeds.float(), dim=-1)
            for weight, bias in self._layers:
                value = functional.linear(value, weight, bias)
            return [float(number) for number in value[:, 0].cpu()]


def read_head(asked: str, folder: Path, width: int) -> list[tuple[Tensor, Tensor]]:
    """The linear layers of an aesthetic head, first to last: (weight `[out, in]`, bias `[out]`).

    LAION's heads have no activation between their layers: `weight` and `bias` alone (v1), or
    `layers.0.weight`, `layers.2.weight`, ... (v2). Code in a `.pth` file is never run.

    Args:
        asked: The model, for messages.
        folder: Where the head lies beside its CLIP.
        width: Numbers of an embedding.

    Raises:
        ModelError: It is no such head, or one for another CLIP.
    """
    file = head_file(folder)
    if file is None:
        raise ModelError(f"scorer {asked}: {folder} has no aesthetic.safetensors")
    state = _state(asked, file)
    layers = []
    for name in sorted((name for name in state if name.endswith("weight")), key=_number):
        bias = state.get(f"{name.removesuffix('weight')}bias")
        weight = state[name]
        if weight.ndim != 2 or bias is None or weight.shape[1] != width:
            shape = "x".join(map(str, weight.shape))
            raise ModelError(
                f"scorer {asked}: {file.name}: {name} ({shape}) does not take the {width} numbers "
                "before it: use the head that was trained over this CLIP"
            )
        layers.append((weight.float(), bias.float()))
        width = weight.shape[0]
    if not layers or width != 1:
        raise ModelError(f"scorer {asked}: {file.name} does not end in one number, so is no head")
    return layers


def _state(asked: str, file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each raise their own
        line = " ".join(str(error).split())[:200]
        raise ModelError(f"scorer {asked}: {file.name} cannot be read: {line}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _number(name: str) -> int:
    found = re.search(r"(\d+)\.weight$", name)
    return int(found[1]) if found else -1

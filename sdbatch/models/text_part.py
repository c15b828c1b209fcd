"""Training the text encoder: from any token after the caption's end, its attributes can be read.

A denoiser that learns words and pictures at once learns both slowly. So the encoder is taught
first what captions mean, in minutes, and is frozen then: cross-attention finds every attribute in
the tokens after the end, whatever the phrasing.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from sdbatch.models.captions import full_caption, loose_caption
from sdbatch.models.class_loss import class_loss
from sdbatch.models.draws import Draws
from sdbatch.models.prompts import Prompts
from sdbatch.models.tokens import LENGTH
from sdbatch.models.world import AT, CLASSES, Scenes, meant, random_scenes

WIDTH, LAYERS, HEADS = 128, 3, 4
_DEVIATION = 0.05
_REACH = 24
"""How many tokens after the end an attribute must be readable at."""

_MEASURED, _MEASURE_SEED = 500, 11


def new_encoder(tokenizer: Any) -> transformers.CLIPTextModel:
    """A CLIP text model of 0.7 M parameters, untrained."""
    encoder = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for module in encoder.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=_DEVIATION)
    return encoder


class TextPart:
    """A text encoder and, for its training only, a reader of attributes."""

    name = "text"
    learning_rate = 1.5e-3

    def __init__(self, prompts: Prompts, batch: int, device: str = "cpu") -> None:
        self._prompts, self._batch, self._device = prompts, batch, device
        prompts.encoder.requires_grad_(True)
        self._readers = nn.ModuleDict(
            {name: nn.Linear(WIDTH, classes) for name, classes in CLASSES.items()}
        ).to(device)
        self.model: nn.Module = nn.ModuleDict(
            {"encoder": prompts.encoder, "readers": self._readers}
        )

    def loss(self, draws: Draws) -> Tensor:
        """Cross entropy of every attribute; of unsaid ones the usual class is learned."""
        scenes = random_scenes(self._batch, draws.numpy)
        captions = [
            full_caption(scene, draws.words)
            if draws.words.random() < 0.5
            else loose_caption(scene, draws.words)
            for scene in scenes.tolist()
        ]
        hidden, end = self._read(captions)
        later = end + (draws.uniform(len(end)).to(end.device) * _REACH).long()
        later = later.clamp(max=LENGTH - 1)
        rows = torch.arange(len(end), device=end.device)
        total = torch.zeros((), device=end.device)
        for features in (hidden[rows, end], hidden[rows, later]):
            total = total + self._cross_entropy(features, scenes)
        return total

    def measure(self) -> dict[str, float]:
        """How often each attribute of unseen full captions is read right; the worst decides."""
        draws = Draws(_MEASURE_SEED, 2**31)
        scenes = random_scenes(_MEASURED, draws.numpy)
        hidden, end = self._read([full_caption(scene, draws.words) for scene in scenes.tolist()])
        features = hidden[torch.arange(len(end)), end]
        shares = {}
        for name, counts in meant(scenes).items():
            read = self._readers[name](features).argmax(1).cpu().numpy()
            shares[name] = float((read == scenes[:, AT[name]])[counts].mean())
        return {"worst": min(shares.values()), "mean": sum(shares.values()) / len(shares)}

    def _read(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Features `[N, length, width]` of captions and where each ends `[N]`."""
        tokens = self._prompts.tokens(captions).to(self._device)
        encoder: Any = self._prompts.encoder
        end = (tokens == encoder.config.eos_token_id).float().argmax(1)
        return encoder(tokens)[0], end

    def _cross_entropy(self, features: Tensor, scenes: Scenes) -> Tensor:
        total = torch.zeros((), device=features.device)
        table = torch.from_numpy(scenes).to(features.device)
        for name, counts in meant(scenes).items():
            mask = torch.from_numpy(counts).to(features.device)
            total = total + class_loss(self._readers[name](features), table[:, AT[name]], mask)
        return total

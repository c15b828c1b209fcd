"""Training the UNet: it learns to take noise off latents, told the caption.

The text encoder is frozen and latents come from a pool, so a step is the UNet alone. Attention is
computed by plain products: the fused kernel's derivative in bfloat16 takes a third of a step on
a CPU, and on a GPU it need not be the same twice.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional

from sdbatch.models.captions import fragment, full_caption, loose_caption
from sdbatch.models.device import fast
from sdbatch.models.draws import Draws
from sdbatch.models.noise import LEVELS, cell_weights, noised, signal_shares
from sdbatch.models.pool import Pool
from sdbatch.models.prompts import Prompts

SHAPE: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "norm_num_groups": 16,
    "cross_attention_dim": 128,
    "attention_head_dim": 4,
    "block_out_channels": (48, 96, 96),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
}
"""3.3 M parameters; the pooled caption joins the time embedding and so reaches every block."""

EMPTY_SHARE, FRAGMENT_SHARE, LOOSE_SHARE = 0.1, 0.02, 0.16
MIDDLE_SHARE, MIDDLE = 0.65, (0.2, 0.8)
"""Most steps go to the levels where pictures are decided: above, all is noise whatever was
predicted; below, shape and colour stand."""


class DenoiserPart:
    """A UNet, what it learns from, and how well pictures drawn with it follow their captions.

    Args:
        model: The UNet.
        prompts: The frozen first room.
        pool: Scenes and latents.
        batch: Scenes a step.
        judge: Measures the model as it stands.
    """

    name = "unet"
    learning_rate = 1e-3

    def __init__(
        self,
        model: UNet2DConditionModel,
        prompts: Prompts,
        pool: Pool,
        batch: int,
        device: str = "cpu",
        judge: Callable[[UNet2DConditionModel], dict[str, float]] | None = None,
    ) -> None:
        self.model: nn.Module = model.to(device)
        self._prompts, self._pool, self._batch, self._device = prompts, pool, batch, device
        self._signal = signal_shares()
        self._judge = judge
        model.set_attn_processor(AttnProcessor())

    def loss(self, draws: Draws) -> Tensor:
        """Squared error of v on one batch, the things in a picture weighing most of it."""
        rows = draws.numpy.integers(0, len(self._pool), self._batch)
        latents = torch.from_numpy(np.array(self._pool.latents[rows])).float()
        captions = [training_caption(scene, draws.words) for scene in self._scenes(rows)]
        levels = random_levels(self._batch, draws)
        noise = draws.normal(*latents.shape)
        given, wanted = noised(latents, noise, self._signal[levels])
        with fast(self._device):
            embeds = self._prompts.embed(captions)
            made = self.model(
                given.to(self._device), levels.to(self._device), encoder_hidden_states=embeds
            ).sample
        weights = cell_weights(latents)
        error = functional.mse_loss(made.float(), wanted.to(self._device), reduction="none")
        return (error * weights.to(self._device)).mean()

    def measure(self) -> dict[str, float]:
        """The judge's table of pictures drawn with the model, with the attention of use."""
        if self._judge is None:
            return {}
        unet: Any = self.model
        unet.set_attn_processor(AttnProcessor2_0())
        table = self._judge(unet)
        unet.set_attn_processor(AttnProcessor())
        return table

    def _scenes(self, rows: np.ndarray[Any, Any]) -> list[list[int]]:
        return [[int(value) for value in self._pool.scenes[row]] for row in rows]


def training_caption(scene: list[int], random: Random) -> str:
    """Mostly full captions; some loose, some of a word or two, some empty for guidance."""
    chance = random.random()
    if chance < EMPTY_SHARE:
        return ""
    if chance < EMPTY_SHARE + FRAGMENT_SHARE:
        return fragment(scene, random)
    if chance < EMPTY_SHARE + FRAGMENT_SHARE + LOOSE_SHARE:
        return loose_caption(scene, random)
    return full_caption(scene, random)


def random_levels(count: int, draws: Draws) -> Tensor:
    """Noise levels `[count]`: some of all, and those in the middle once more.

    They are spread evenly over a batch, so that steps differ less by chance; D. Kingma et al.,
    "Variational diffusion models" (2021), appendix I.
    """
    least, most = MIDDLE
    evenly = (torch.arange(count) + draws.uniform(count)) / count
    in_middle = least + (most - least) * (evenly / MIDDLE_SHARE)
    anywhere = (evenly - MIDDLE_SHARE) / (1 - MIDDLE_SHARE)
    share = torch.where(evenly < MIDDLE_SHARE, in_middle, anywhere)
    return (share * LEVELS).long().clamp(0, LEVELS - 1)

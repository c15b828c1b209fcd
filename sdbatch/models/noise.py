"""Noise levels and what is predicted: v, over a linear schedule of 1000 levels.

Which levels a step trains on matters more than their number: what a caption decides is decided
where the noise is strong but not yet all, so more steps are spent there.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

LEVELS = 1000
THINGS_SHARE = 0.6
_AWAY, _MOST = 0.5, 10.0
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": LEVELS,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}


def signal_shares() -> Tensor:
    """How much of a latent's variance is signal at each level, `[LEVELS]` in float32."""
    return torch.as_tensor(DDIMScheduler(**SCHEDULE, clip_sample=False).alphas_cumprod).float()


def noised(latents: Tensor, noise: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Noised latents and the v to be predicted; `share` is `[N]`, the rest `[N, C, h, w]`.

    Source: T. Salimans, J. Ho, "Progressive distillation" (2022), appendix D.
    """
    signal, rest = share.sqrt()[:, None, None, None], (1 - share).sqrt()[:, None, None, None]
    return signal * latents + rest * noise, signal * noise - rest * latents


def cell_weights(latents: Tensor) -> Tensor:
    """How much each cell of latents `[N, C, h, w]` counts, `[N, 1, h, w]`, at most 1 on average.

    Things cover a seventh of a picture, small ones a thirtieth, and all that is hard to learn is
    in them; so `THINGS_SHARE` of the loss is spread over the cells away from the background
    (the median cell), whatever their number. The caption says where things are, so what
    is learned is the same, sooner.
    """
    background = latents.flatten(2).median(dim=2).values[:, :, None, None]
    things = ((latents - background).square().sum(1, keepdim=True) > _AWAY).to(latents)
    share = things.mean(dim=(2, 3), keepdim=True).clamp(min=1 / _MOST)
    return 1 - THINGS_SHARE + THINGS_SHARE * things / share

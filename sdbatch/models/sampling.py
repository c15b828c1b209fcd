"""Pictures drawn by the model while it is trained, as the shipped defaults draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from sdbatch.models.captions import full_caption
from sdbatch.models.draws import Draws
from sdbatch.models.judging import Judge, agreement
from sdbatch.models.noise import SCHEDULE
from sdbatch.models.prompts import Prompts
from sdbatch.models.world import AT, Scenes, random_scenes

STEPS, GUIDANCE = 12, 3.0
UNSEEN_SEED = 12345
_DRAWN_AT_ONCE = 25


def unseen(count: int) -> tuple[Scenes, list[str]]:
    """Scenes and their full captions, of a seed that no training uses."""
    draws = Draws(UNSEEN_SEED, 2**31)
    scenes = random_scenes(count, draws.numpy)
    return scenes, [full_caption(scene, draws.words) for scene in scenes.tolist()]


@torch.no_grad()
def draw_prompts(
    unet: Any, vae: Any, prompts: Prompts, captions: list[str], device: str = "cpu"
) -> Tensor:
    """Pictures `[N, 3, H, W]` from 0 to 1, on the CPU."""
    side = unet.config.sample_size
    drawn = []
    for start in range(0, len(captions), _DRAWN_AT_ONCE):
        some = captions[start : start + _DRAWN_AT_ONCE]
        noise = Draws(UNSEEN_SEED, start).normal(len(some), unet.config.in_channels, side, side)
        embeds = prompts.embed([*some, *[""] * len(some)])
        latents = _denoise(unet, noise.to(device), embeds) / vae.config.scaling_factor
        drawn.append((vae.decode(latents).sample / 2 + 0.5).clamp(0, 1).float().cpu())
    return torch.cat(drawn)


def _denoise(unet: Any, noise: Tensor, embeds: Tensor) -> Tensor:
    """Latents `[n, C, h, w]`; the second half of the embeddings is the empty prompt's."""
    scheduler = DPMSolverMultistepScheduler(**SCHEDULE)
    scheduler.set_timesteps(STEPS)
    latents = noise * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        twice = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
        said, empty = unet(twice, timestep, encoder_hidden_states=embeds).sample.chunk(2)
        guided = empty + GUIDANCE * (said - empty)
        latents = scheduler.step(guided, timestep, latents).prev_sample
    return torch.as_tensor(latents)


class DrawnTable:
    """Judges what a UNet draws from captions it never saw.

    Args:
        count: How many pictures are drawn each time.
    """

    def __init__(
        self, vae: Any, prompts: Prompts, judge: Judge, count: int, device: str = "cpu"
    ) -> None:
        self._vae, self._prompts, self._judge, self._device = vae, prompts, judge, device
        self._scenes, self._captions = unseen(count)

    def __call__(self, unet: Any) -> dict[str, float]:
        """The judge's table."""
        pictures = draw_prompts(unet, self._vae, self._prompts, self._captions, self._device)
        layouts = torch.from_numpy(np.ascontiguousarray(self._scenes[:, AT["layout"]]))
        return agreement(self._judge.name(pictures, layouts), self._scenes)

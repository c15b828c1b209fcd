"""Training the VAE: first whole, then its decoder alone.

A whole VAE decides what latents are; its decoder can be trained on for as long as one likes while
the encoder, and with it every denoiser that was trained on its latents, stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from sdbatch.models.device import fast
from sdbatch.models.drawing import draw
from sdbatch.models.draws import Draws
from sdbatch.models.judge_part import held_out
from sdbatch.models.world import random_scenes

SHAPE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 32, 64),
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "sample_size": 64,
}
"""0.65 M parameters; a latent is a quarter of the picture's side."""

SCALING_FACTOR = 0.18215
_MEASURED = 256
_KL_WEIGHT = 3e-4
_LATENT_NOISE = 0.03


class VaePart:
    """Encoder and decoder together."""

    name = "vae"
    learning_rate = 2e-3

    def __init__(self, model: AutoencoderKL, batch: int, device: str = "cpu") -> None:
        self.model: nn.Module = model.to(device)
        self._vae, self._batch, self._device = model, batch, device

    def loss(self, draws: Draws) -> Tensor:
        """What a picture loses on its way through the latents, and how far those are from normal.

        Source of the second term: D. Kingma, M. Welling, "Auto-encoding variational Bayes" (2013).
        """
        pictures = _pictures(self._batch, draws).to(self._device)
        with fast(self._device):
            posterior = self._vae.encode(pictures).latent_dist
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            noise = draws.normal(*mean.shape).to(self._device)
            made = self._vae.decode(mean + (0.5 * logvar).exp() * noise).sample
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        lost: Tensor = difference(made.float(), pictures) + _KL_WEIGHT * divergence
        return lost

    def measure(self) -> dict[str, float]:
        """PSNR on held-out pictures."""
        return {"psnr_db": psnr_db(self._vae, self._device)}


class DecoderPart:
    """The decoder alone; the encoder is frozen."""

    name = "decoder"
    learning_rate = 1e-3

    def __init__(self, model: AutoencoderKL, batch: int, device: str = "cpu") -> None:
        self.model: nn.Module = model.to(device).requires_grad_(False)
        for part in (model.decoder, model.post_quant_conv):
            part.requires_grad_(True)
        self._vae, self._batch, self._device = model, batch, device

    def loss(self, draws: Draws) -> Tensor:
        """What is lost when latents, a little noisy as a denoiser leaves them, become pictures."""
        pictures = _pictures(self._batch, draws).to(self._device)
        factor = self._vae.config.scaling_factor
        with fast(self._device):
            with torch.no_grad():
                latents = self._vae.encode(pictures).latent_dist.mean.float()
            noise = draws.normal(*latents.shape).to(self._device) * (_LATENT_NOISE / factor)
            made = self._vae.decode(latents + noise).sample
        return difference(made.float(), pictures)

    def measure(self) -> dict[str, float]:
        """PSNR on held-out pictures."""
        return {"psnr_db": psnr_db(self._vae, self._device)}


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """How pictures from -1 to 1 differ: in colour, in squares (which PSNR counts), in edges."""
    error = made - wanted
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + 0.25 * edges + 4 * functional.mse_loss(made, wanted)


@torch.no_grad()
def psnr_db(vae: Any, device: str = "cpu") -> float:
    """Mean peak signal-to-noise ratio of held-out pictures after encoding and decoding."""
    ratios = []
    for pictures in torch.split(held_out(_MEASURED)[1].to(device), 32):
        latents = vae.encode(pictures * 2 - 1).latent_dist.mean
        made = (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
        ratios.append(-10 * torch.log10(((made - pictures) ** 2).mean((1, 2, 3))))
    return float(torch.cat(ratios).mean())


@torch.no_grad()
def whiten(vae: Any, device: str = "cpu") -> None:
    """Make scaled latents of mean 0 and deviation 1 in each channel, pictures unchanged.

    The shift and the scale are folded into the convolutions on both sides of the latents.
    """
    pictures = _pictures(_MEASURED, Draws(0, 0)).to(device)
    latents = torch.cat([vae.encode(some).latent_dist.mean for some in torch.split(pictures, 32)])
    mean, scale = latents.mean((0, 2, 3)), 1 / (SCALING_FACTOR * latents.std((0, 2, 3)))
    into, out, channels = vae.quant_conv, vae.post_quant_conv, len(mean)
    into.weight[:channels] *= scale[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) * scale
    into.bias[channels:] += 2 * scale.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight /= scale[None, :, None, None]
    vae.register_to_config(scaling_factor=SCALING_FACTOR)


def _pictures(count: int, draws: Draws) -> Tensor:
    """Fresh pictures `[count, 3, 64, 64]` from -1 to 1."""
    return draw(random_scenes(count, draws.numpy), draws.numpy) * 2 - 1

"""How a known model fits on a GPU, said before a byte of it is fetched.

The rule: numbers of two bytes; of a card's gigabytes (2**30) one goes to the driver and a desktop.
*resident* needs all weights and the fullest moment of any room, *rooms* the largest room alone with
its own fullest moment, *offload* a few layers at a time, whose weights wait in the host's memory.
The decoder's moment is counted as `memory_need.py` counts it (a megapixel of pictures through
SD's VAE, with its margin); the denoiser's is rounded up. A run asks the device itself.
"""

from __future__ import annotations

from typing import Any

from sdbatch.render.families.known_models import MODELS, PublishedModel

CARDS_GB = (8, 12, 16, 24)
DRIVER_GB = 1.0
MOMENT_GB = (0.3, 1.0, 2.0)
"""What a pass of each room holds beside weights: text encoders, denoiser, decoder."""

RESIDENT, ROOMS, OFFLOAD, NONE = "resident", "rooms", "offload", "no fit"
LAYERS_GB = 2.0
"""Weights of the layers that offloading keeps on the device at a time, with those to come."""


def memory_mode(model: PublishedModel, card_gb: int) -> str:
    """`resident`, `rooms`, `offload` or `no fit` on a card of so many GB."""
    free = card_gb * 2**30 / 1e9 - DRIVER_GB
    weights = [2 * billions for billions in model.params]
    if sum(weights) + max(MOMENT_GB) <= free:
        return RESIDENT
    if max(held + moment for held, moment in zip(weights, MOMENT_GB, strict=True)) <= free:
        return ROOMS
    return OFFLOAD if LAYERS_GB + max(MOMENT_GB) <= free else NONE


def known_rows() -> list[dict[str, Any]]:
    """The table of known models, a row each, in the order in which it is shown.

    Keys: `model`, `repo`, `file`, `steps`, `guidance`, `size` (`WxH`), `scheduler` (None leaves it
    to the model), `download_gb`, `memory` (card in GB to mode), `licence`, `licence_url`, `gated`,
    `about`.
    """
    return [
        {
            "model": one.short,
            "repo": one.repo,
            "file": one.file,
            "steps": one.settings.num_inference_steps,
            "guidance": one.settings.guidance_scale,
            "size": f"{one.size[0]}x{one.size[1]}",
            "scheduler": one.settings.scheduler,
            "download_gb": one.download_gb,
            "memory": {card: memory_mode(one, card) for card in CARDS_GB},
            "licence": one.licence,
            "licence_url": one.licence_url,
            "gated": one.gated,
            "about": one.about,
        }
        for one in MODELS
    ]

"""Whether a model can be trusted with half numbers on a device that often spoils them.

Apple's GPUs give NaN, and so black pictures, for models that are sound in half precision
elsewhere, and which ones depends on model and macOS. So before the first row each room is
tried once: a prompt, the denoiser at both ends of its way and in the middle, a decode.
"""

from __future__ import annotations

from typing import Any

import torch

from sdbatch.errors import ModelError
from sdbatch.records import RenderRow
from sdbatch.render.families.rooms import Rooms
from sdbatch.render.lane_inputs import LaneInputs

PROBED = frozenset({"mps"})
"""Kinds of devices on which half numbers are tried before they are trusted."""
MAX_CELLS = 64
TIMES = (999.0, 500.0, 1.0)
PROMPT = "a photograph of a red house beside a lake"


def demand_half(asked: str, dtype: str, device: torch.device, rooms: Rooms, model: str) -> str:
    """The number type to go on with: half where it holds, else float32 where nobody insists.

    Args:
        asked: `auto`, or the number type that a person or a plan wants.
        dtype: What the rooms were loaded in.
        model: What messages call it.

    Raises:
        ModelError: Half numbers were asked for, and give NaN.
    """
    if dtype == "float32" or device.type not in PROBED or is_finite(rooms):
        return dtype
    if asked != "auto":
        raise ModelError(f"model {model}: {dtype} gives NaN on {device.type}, use --dtype float32")
    return "float32"


def is_finite(rooms: Rooms) -> bool:
    """Whether a prompt, three calls of the denoiser and a decode give finite numbers."""
    with torch.inference_mode():
        tokens, _ = rooms.text_model.tokenize([PROMPT])
        embeds = rooms.text_model.embed(tokens).float()
        latents = _latents(rooms)
        if not bool(embeds.isfinite().all()):
            return False
        outputs = rooms.noise_model.predict(_inputs(rooms, latents, embeds))
        if not bool(outputs.isfinite().all()):
            return False
        return bool(rooms.latent_decoder.decode(latents[:1]).isfinite().all())


def _inputs(rooms: Rooms, latents: torch.Tensor, embeds: torch.Tensor) -> LaneInputs:
    """A lane for each of `TIMES`, of one row."""
    scale = rooms.latent_decoder.scale
    side_px = latents.shape[-1] * scale
    row = RenderRow(0, 0, "", PROMPT, "", 0, side_px, side_px, len(TIMES), 7.5, "")
    device = latents.device
    return LaneInputs(
        latents=latents,
        timesteps=torch.tensor(TIMES, device=device),
        embeds=embeds.expand(len(TIMES), -1, -1),
        numbers=torch.tensor([rooms.noise_model.row_numbers(row)] * len(TIMES), device=device),
    )


def _latents(rooms: Rooms) -> torch.Tensor:
    """Noise `[3, C, h, w]` of the model's own size, or a smaller one."""
    config: Any = rooms.denoiser.config
    cells = config.get("sample_size") or MAX_CELLS
    side = min(cells if isinstance(cells, int) else min(cells), MAX_CELLS)
    generator = torch.Generator().manual_seed(0)
    shape = (len(TIMES), rooms.noise_model.channels, side, side)
    return torch.randn(shape, generator=generator).to(rooms.noise_model.device)

"""A pool of scenes and their latents: drawn and encoded once, trained on many times.

Encoding a picture costs about a third of a training step, so the denoiser learns from latents on
disk. They are made block by block from the seed; a pool that was interrupted goes on after its
last whole block, and one that another encoder made is made again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdbatch.models.device import fast
from sdbatch.models.drawing import draw
from sdbatch.models.world import COLUMNS, random_scenes

BLOCK = 512
SCENES, LATENTS, DONE = "scenes.int8", "latents.float16", "done.json"
_ENCODED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes `[N, 11]` and their scaled latents `[N, 4, h, w]` in half precision, on disk."""

    scenes: NDArray[np.int8]
    latents: NDArray[np.float16]

    def __len__(self) -> int:
        return len(self.scenes)


def open_pool(folder: Path) -> Pool:
    """The finished blocks of a pool."""
    count, shape = _standing(folder)
    return Pool(
        np.memmap(folder / SCENES, np.int8, "r", shape=(count, len(COLUMNS))),
        np.memmap(folder / LATENTS, np.float16, "r", shape=(count, *shape)),
    )


def make_pool(folder: Path, count: int, vae: Any, device: str = "cpu", seed: int = 0) -> Pool:
    """Draw and encode `count` scenes (whole blocks), or what of them is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    maker = f"{_encoder_mark(vae)}:{seed}"
    finished, shape = _standing(folder, maker)
    for block in range(finished // BLOCK, -(-count // BLOCK)):
        rng = np.random.default_rng([seed, block])
        scenes = random_scenes(BLOCK, rng)
        latents = encode(vae, draw(scenes, rng), device).half().numpy()
        shape = latents.shape[1:]
        _append(folder / SCENES, scenes.astype(np.int8), block)
        _append(folder / LATENTS, latents, block)
        held = {"scenes": (block + 1) * BLOCK, "latent": shape, "maker": maker}
        (folder / DONE).write_text(json.dumps(held))
    return open_pool(folder)


def _standing(folder: Path, maker: str | None = None) -> tuple[int, tuple[int, ...]]:
    """How many scenes of this maker are finished, and a latent's shape."""
    if not (folder / DONE).exists():
        return 0, ()
    held = json.loads((folder / DONE).read_text())
    if maker not in (None, held["maker"]):
        return 0, ()
    return int(held["scenes"]), tuple(held["latent"])


def _encoder_mark(vae: Any) -> str:
    """What decides latents: the weights on the way to them, and none of the decoder's."""
    digest = hashlib.sha256()
    for part in (vae.encoder, vae.quant_conv):
        for weight in part.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _append(path: Path, block: NDArray[Any], number: int) -> None:
    """Write a block to its place; what an interrupted one left there is written over."""
    with path.open("r+b" if path.exists() else "w+b") as file:
        file.seek(number * block.nbytes)
        file.write(block.tobytes())


@torch.no_grad()
def encode(vae: Any, pictures: Tensor, device: str = "cpu") -> Tensor:
    """Scaled mean latents of pictures `[N, 3, H, W]` from 0 to 1, on the CPU in float32."""
    made = []
    for some in torch.split(pictures, _ENCODED_AT_ONCE):
        with fast(device):
            latents = vae.encode(some.to(device) * 2 - 1).latent_dist.mean
        made.append(latents.float().cpu() * vae.config.scaling_factor)
    return torch.cat(made)

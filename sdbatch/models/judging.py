"""The judge: says what a picture shows, so that it can be held against its caption.

One network sees the whole picture (layout, background, place, sizes); another sees each object cut
out and scaled to one size (shape, colour, pattern). A whole-picture network alone names half of
the shapes wrong. Where to cut is found by the difference from the border's colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from sdbatch.models.drawing import SIDE_PX
from sdbatch.models.world import AT, CLASSES, COLUMNS, CORE, Scenes, meant

WEIGHTS = Path(__file__).with_name("judge.safetensors")
WHOLE = ("layout", "background", "place", "size_1", "size_2")
OF_OBJECT = ("shape", "colour", "pattern")
UNSEEN = -1
"""What is named where no object is found; no class has this number."""

CROP_PX = 32
_MARGIN, _MARGIN_PX = 1.2, 1.5
_DIFFERENCE, _LEAST_PIXELS = 0.3, 12


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, outputs), nn.ReLU())


class Judge(nn.Module):
    """Both networks; 0.9 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = nn.Sequential(
            *(_block(3, 24, 2), _block(24, 48, 2), _block(48, 64), _block(64, 96, 2)),
            *(_block(96, 64), nn.Flatten(), nn.Linear(64 * 64, 128), nn.ReLU()),
        )
        self.crop = nn.Sequential(
            *(_block(4, 24), _block(24, 32, 2), _block(32, 48), _block(48, 64, 2)),
            *(_block(64, 64, 2), nn.Flatten(), nn.Linear(64 * 16, 128), nn.ReLU()),
        )
        self.of_whole = nn.ModuleDict({name: nn.Linear(128, CLASSES[name]) for name in WHOLE})
        self.of_object = nn.ModuleDict(
            {name: nn.Linear(128, CLASSES[f"{name}_1"]) for name in OF_OBJECT}
        )

    def see_whole(self, pictures: Tensor) -> dict[str, Tensor]:
        """Scores `[N, classes]` for pictures `[N, 3, 64, 64]` from 0 to 1."""
        features = self.whole(pictures * 2 - 1)
        return {name: head(features) for name, head in self.of_whole.items()}

    def see_objects(self, crops: Tensor) -> dict[str, Tensor]:
        """Scores `[N, classes]` for crops `[N, 4, 32, 32]`."""
        features = self.crop(crops)
        return {name: head(features) for name, head in self.of_object.items()}

    @torch.no_grad()
    def name(self, pictures: Tensor, layouts: Tensor) -> dict[str, NDArray[np.int64]]:
        """The class of every attribute, `[N]` each.

        Args:
            pictures: `[N, 3, 64, 64]` from 0 to 1.
            layouts: Where objects are expected, `[N]` class numbers.
        """
        named = {name: scores.argmax(1) for name, scores in self.see_whole(pictures).items()}
        for number in (1, 2):
            crops, found = cut_out(pictures, layouts, number)
            for name, scores in self.see_objects(crops).items():
                named[f"{name}_{number}"] = torch.where(found, scores.argmax(1), UNSEEN)
        return {name: named[name].numpy() for name in COLUMNS}


def load_judge(weights: Path = WEIGHTS) -> Judge:
    """The trained judge."""
    judge = Judge()
    judge.load_state_dict({name: kept.float() for name, kept in load_file(weights).items()})
    return judge.eval()


def save_judge(judge: Judge, weights: Path) -> None:
    """Keep a judge in half precision."""
    save_file({name: kept.half() for name, kept in judge.state_dict().items()}, weights)


def cut_out(
    pictures: Tensor, layouts: Tensor, number: int, jitter: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Objects scaled to one size, `[N, 4, 32, 32]` (colours from -1 to 1, and where the object
    is), and whether one was found `[N]`.

    Args:
        jitter: `[N, 3]`, moves and scales the window by chance while the judge is trained.
    """
    objects = _objects(pictures, layouts, number)
    found = objects.sum((1, 2)) > _LEAST_PIXELS
    left, right = _ends(objects.amax(1))
    top, bottom = _ends(objects.amax(2))
    half = torch.maximum(right - left, bottom - top) / 2 * _MARGIN + _MARGIN_PX
    window = torch.stack([(left + right) / 2, (top + bottom) / 2, half], 1)
    window = torch.where(found[:, None], window, torch.tensor([31.5, 31.5, 30.0]))
    if jitter is not None:
        half = window[:, 2:]
        window = torch.cat([window[:, :2] + half * jitter[:, :2], half * (1 + jitter[:, 2:])], 1)
    seen = torch.cat([pictures, objects[:, None]], 1) * 2 - 1
    grid = _grid(window)
    return functional.grid_sample(seen, grid, padding_mode="border", align_corners=False), found


def _objects(pictures: Tensor, layouts: Tensor, number: int) -> Tensor:
    """1 where the picture is not its border's colour, in the half where the object is meant to be,
    `[N, 64, 64]`.
    """
    rims = (pictures[:, :, :2], pictures[:, :, -2:], pictures[..., :2], pictures[..., -2:])
    border = torch.cat([rim.flatten(2) for rim in rims], 2).median(2).values[:, :, None, None]
    differs = ((pictures - border).abs().amax(1) * 2 > _DIFFERENCE).float()
    smooth = functional.avg_pool2d(differs[:, None], 3, 1, 1)[:, 0]
    line = torch.arange(SIDE_PX, device=pictures.device)
    near = line < SIDE_PX // 2 if number == 1 else line >= SIDE_PX // 2
    layout = layouts[:, None, None]
    half = torch.where(layout == 1, near[None, None, :], near[None, :, None]) | (layout == 0)
    return differs * (smooth > 0.4) * half


def _ends(filled: Tensor) -> tuple[Tensor, Tensor]:
    """First and last filled number of each row of `[N, 64]`."""
    line = torch.arange(float(SIDE_PX))
    first = torch.where(filled > 0, line, 99.0).amin(1)
    return first, torch.where(filled > 0, line, -99.0).amax(1)


def _grid(window: Tensor) -> Tensor:
    """Where each pixel of a crop is taken from, `[N, 32, 32, 2]` from -1 to 1."""
    across = (torch.arange(CROP_PX) + 0.5) / (CROP_PX / 2) - 1
    centre, half = window[:, :2], window[:, 2:]
    x = (centre[:, :1] + half * across + 0.5) / (SIDE_PX / 2) - 1
    y = (centre[:, 1:] + half * across + 0.5) / (SIDE_PX / 2) - 1
    shape = (len(window), CROP_PX, CROP_PX)
    return torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], -1)


def agreement(named: Mapping[str, NDArray[np.int64]], scenes: Scenes) -> dict[str, float]:
    """The share of pictures in which each attribute is as meant; `core` and `all` together.

    Attributes that no scene has are left out.
    """
    counts = meant(scenes)
    right = {name: (named[name] == scenes[:, AT[name]]) | ~counts[name] for name in COLUMNS}
    table = {
        name: float(right[name][counts[name]].mean()) for name in COLUMNS if counts[name].any()
    }
    table["core"] = float(np.logical_and.reduce([right[name] for name in CORE]).mean())
    table["all"] = float(np.logical_and.reduce(list(right.values())).mean())
    return table

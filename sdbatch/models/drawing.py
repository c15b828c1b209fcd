"""Scenes become pictures: objects placed with a little chance, painted with smooth edges.

Positions, radii, turns and shades vary within a class, so that a model must learn classes and not
pictures. Lengths are in pixels of a picture of `SIDE_PX`, whatever size is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sdbatch.models.outlines import OUTLINES
from sdbatch.models.world import AT, COLOURS, LIGHT, PATTERNS, SHAPES, Scenes, has_two

SIDE_PX = 64
MIDDLE = (SIDE_PX - 1) / 2
_TURN = 0.12
_SHADE = 0.014
_PLACE_STEP_PX = 17.5
_PAIR_AT_PX = (16.5, 46.5)
_RADII_PX = ((8.5, 10.0), (13.5, 16.0), (20.0, 24.0))
_RADII_OF_TWO_PX = ((8.0, 9.5), (11.5, 13.8), (11.5, 13.8))
_STEPS = ((0, 0), (-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1))
_PALETTE = torch.tensor(list(COLOURS.values())).float() / 255
_LUMA = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Placing:
    """Where the objects of N scenes lie: radii and turns `[N, 2]`, centres `[N, 2, 2]` as (x, y),
    shades added to background and objects `[N, 3, 3]`.
    """

    radii: Tensor
    centres: Tensor
    turns: Tensor
    shades: Tensor


def place(scenes: Scenes, rng: np.random.Generator) -> Placing:
    """Draw what the classes leave open."""
    count, two = len(scenes), has_two(scenes)
    radii = np.zeros((count, 2))
    chance = rng.random((count, 2))
    for number in (0, 1):
        size = scenes[:, AT[f"size_{number + 1}"]]
        ranges = np.where(two[:, None], np.array(_RADII_OF_TWO_PX)[size], np.array(_RADII_PX)[size])
        radii[:, number] = ranges[:, 0] + chance[:, number] * (ranges[:, 1] - ranges[:, 0])
    jitter = rng.uniform(-2, 2, (count, 2, 2))
    room = np.maximum(MIDDLE - radii[:, :1] - 1.5, 0)
    away = np.array(_STEPS)[scenes[:, AT["place"]]] * np.minimum(_PLACE_STEP_PX, room)
    centres = np.full((count, 2, 2), MIDDLE)
    centres[:, 0] += np.clip(away + jitter[:, 0], -room, room)
    for layout, axis in ((1, 0), (2, 1)):
        these = scenes[:, AT["layout"]] == layout
        pair = np.full((2, 2), MIDDLE)
        pair[:, axis] = _PAIR_AT_PX
        centres[these] = pair + 0.75 * jitter[these]
    turns = rng.uniform(-_TURN, _TURN, (count, 2))
    shades = rng.normal(0, _SHADE, (count, 3, 3))
    return Placing(*(torch.from_numpy(a).float() for a in (radii, centres, turns, shades)))


def paint(scenes: Scenes, placing: Placing, side_px: int = SIDE_PX) -> Tensor:
    """Pictures `[N, 3, side, side]` with values from 0 to 1."""
    count = len(scenes)
    background = _PALETTE[scenes[:, AT["background"]]] + placing.shades[:, 0]
    pictures = background.clamp(0, 1)[:, :, None, None].repeat(1, 1, side_px, side_px)
    for number in (0, 1):
        drawn = np.ones(count, bool) if number == 0 else has_two(scenes)
        for shape in range(len(SHAPES)):
            rows = np.flatnonzero(drawn & (scenes[:, AT[f"shape_{number + 1}"]] == shape))
            if len(rows):
                _paint_objects(pictures, torch.from_numpy(rows), scenes[rows], placing, number)
    return pictures.clamp(0, 1)


def draw(scenes: Scenes, rng: np.random.Generator, side_px: int = SIDE_PX) -> Tensor:
    """Pictures `[N, 3, side, side]` from 0 to 1 of scenes placed by chance."""
    return paint(scenes, place(scenes, rng), side_px)


def _paint_objects(
    pictures: Tensor, rows: Tensor, scenes: Scenes, placing: Placing, number: int
) -> None:
    """Paint one object, of one shape, into each of these rows."""
    radius = placing.radii[rows, number][:, None, None]
    x, y = _own_coordinates(pictures.shape[-1], rows, radius, placing, number)
    shape = SHAPES[int(scenes[0, AT[f"shape_{number + 1}"]])]
    distance = OUTLINES[shape](x, y) * radius
    colour = _PALETTE[scenes[:, AT[f"colour_{number + 1}"]]] + placing.shades[rows, number + 1]
    colour = colour.clamp(0, 1)
    second = torch.where((colour @ _LUMA > LIGHT)[:, None], 0.07, 0.97).expand_as(colour)
    pixel = SIDE_PX / pictures.shape[-1]
    pattern = torch.from_numpy(scenes[:, AT[f"pattern_{number + 1}"]])[:, None, None]
    mix = _pattern(x, y, distance, radius, pattern, pixel)[:, None]
    paint_ = colour[:, :, None, None] * (1 - mix) + second[:, :, None, None] * mix
    cover = (0.5 - distance / pixel).clamp(0, 1)[:, None]
    pictures[rows] = pictures[rows] * (1 - cover) + paint_ * cover


def _own_coordinates(
    side: int, rows: Tensor, radius: Tensor, placing: Placing, number: int
) -> tuple[Tensor, Tensor]:
    """Each pixel in the object's own units, turned as the object is, `[n, side, side]` twice."""
    line = (torch.arange(side).float() + 0.5) * (SIDE_PX / side) - 0.5
    centre = placing.centres[rows, number]
    x = (line[None, None, :] - centre[:, 0, None, None]) / radius
    y = (line[None, :, None] - centre[:, 1, None, None]) / radius
    turn = placing.turns[rows, number][:, None, None]
    cosine, sine = torch.cos(turn), torch.sin(turn)
    return x * cosine - y * sine, x * sine + y * cosine


def _pattern(
    x: Tensor, y: Tensor, distance: Tensor, radius: Tensor, pattern: Tensor, pixel: float
) -> Tensor:
    """How much of the second colour each pixel takes, from 0 to 1."""
    period = (radius * 0.44).clamp(min=4.6) / radius
    wave = torch.sin((x + y) * (math.sqrt(2) * math.pi) / period)
    stripes = wave * period * radius / (2 * math.pi * pixel) + 0.5
    near_x = torch.remainder(x / period + 0.5, 1) - 0.5
    near_y = torch.remainder(y / period + 0.5, 1) - 0.5
    dots = (0.28 - torch.hypot(near_x, near_y)) * period * radius / pixel + 0.5
    rim = (distance + (radius * 0.14).clamp(min=1.8)) / pixel + 0.5
    mix = torch.zeros_like(distance)
    for name, amount in (("striped", stripes), ("dotted", dots), ("outlined", rim)):
        mix = torch.where(pattern == PATTERNS.index(name), amount.clamp(0, 1), mix)
    return mix

"""Shapes as signed distances: negative inside, zero on the outline, in units of the object.

Formulas of star, heart and cross after Inigo Quilez, "2D distance functions". The y axis points
down, as in pictures; an object reaches from about -0.9 to 0.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Outline = Callable[[Tensor, Tensor], Tensor]
_HALF_ROOT_3 = math.sqrt(3) / 2


def _circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.88


def _square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.76


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    y = y - 0.12
    return torch.maximum(y - 0.58, (x.abs() * _HALF_ROOT_3 - y * 0.5) - 0.52)


def _diamond(x: Tensor, y: Tensor) -> Tensor:
    return (x.abs() * 1.45 + y.abs() - 0.98) / 1.76


def _hexagon(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(y.abs(), x.abs() * _HALF_ROOT_3 + y.abs() * 0.5) - 0.8


def _ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.66).abs() - 0.24


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    upright = torch.maximum(x - 0.29, y - 0.88)
    return torch.minimum(upright, torch.maximum(x - 0.88, y - 0.29))


def _crescent(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(x, y) - 0.9, 0.74 - torch.hypot(x - 0.42, y + 0.12))


def _star(x: Tensor, y: Tensor) -> Tensor:
    cosine, sine = math.cos(math.pi / 5), math.sin(math.pi / 5)
    x, y = x.abs(), 0.05 - y
    for side in (1, -1):
        inward = 2 * torch.clamp(side * x * cosine - y * sine, min=0)
        x, y = x - side * inward * cosine, y + inward * sine
    x, y = x.abs(), y - 1
    edge_x, edge_y = 0.45 * sine, 0.45 * cosine - 1
    along = ((x * edge_x + y * edge_y) / (edge_x**2 + edge_y**2)).clamp(0, 1)
    side_of_edge = torch.sign(y * edge_x - x * edge_y)
    return torch.hypot(x - edge_x * along, y - edge_y * along) * side_of_edge


def _heart(x: Tensor, y: Tensor) -> Tensor:
    scale = 1.42
    x, y = (x / scale).abs(), (0.02 - y) / scale + 0.55
    lobe = torch.sqrt((x - 0.25) ** 2 + (y - 0.75) ** 2 + 1e-9) - math.sqrt(2) / 4
    nearest = 0.5 * torch.clamp(x + y, min=0)
    dent, flank = x**2 + (y - 1) ** 2, (x - nearest) ** 2 + (y - nearest) ** 2
    tip = torch.sqrt(torch.minimum(dent, flank) + 1e-9) * torch.sign(x - y)
    return torch.where(y + x > 1, lobe, tip) * scale


OUTLINES: dict[str, Outline] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
    "crescent": _crescent,
    "hexagon": _hexagon,
}

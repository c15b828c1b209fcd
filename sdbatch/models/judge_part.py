"""Training the judge: to name the attributes of pictures, of blurred and noisy ones too."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sdbatch.models.class_loss import class_loss
from sdbatch.models.drawing import draw
from sdbatch.models.draws import Draws
from sdbatch.models.judging import OF_OBJECT, Judge, agreement, cut_out
from sdbatch.models.world import AT, Scenes, has_two, meant, random_scenes

HELD_OUT_SEED = 7
HELD_OUT = 1000
_BLURRED_SHARE, _NOISE = 0.5, 0.04
_JITTER = 0.08


class JudgePart:
    """A judge and the pictures it learns from, fresh ones each step."""

    name = "judge"
    learning_rate = 2e-3

    def __init__(self, model: Judge, batch: int) -> None:
        self.model: nn.Module = model
        self._judge = model
        self._batch = batch

    def loss(self, draws: Draws) -> Tensor:
        """Cross entropy of all attributes."""
        scenes = random_scenes(self._batch, draws.numpy)
        pictures = _worn(draw(scenes, draws.numpy), draws)
        counts = {name: torch.from_numpy(mask) for name, mask in meant(scenes).items()}
        table = torch.from_numpy(scenes)
        total = torch.zeros(())
        for name, scores in self._judge.see_whole(pictures).items():
            total = total + class_loss(scores, table[:, AT[name]], counts[name])
        return total + self._object_loss(pictures, scenes, draws)

    def _object_loss(self, pictures: Tensor, scenes: Scenes, draws: Draws) -> Tensor:
        table = torch.from_numpy(scenes)
        two = torch.from_numpy(has_two(scenes))
        crops, wanted = [], []
        for number, rows in ((1, torch.ones_like(two)), (2, two)):
            jitter = draws.normal(len(table), 3)[rows] * _JITTER
            crops.append(cut_out(pictures[rows], table[rows, AT["layout"]], number, jitter)[0])
            wanted.append(table[rows][:, [AT[f"{name}_{number}"] for name in OF_OBJECT]])
        answers = torch.cat(wanted)
        scores = self._judge.see_objects(torch.cat(crops))
        losses = [
            functional.cross_entropy(scores[name], answers[:, column])
            for column, name in enumerate(OF_OBJECT)
        ]
        return torch.stack(losses).sum()

    def measure(self) -> dict[str, float]:
        """Agreement on held-out pictures of the world."""
        return judge_real_pictures(self._judge)


def held_out(count: int = HELD_OUT) -> tuple[Scenes, Tensor]:
    """Scenes and pictures that no training draws."""
    rng = Draws(HELD_OUT_SEED, 2**31).numpy
    scenes = random_scenes(count, rng)
    return scenes, draw(scenes, rng)


def judge_real_pictures(judge: Judge) -> dict[str, float]:
    """How right the judge is where the truth is known."""
    scenes, pictures = held_out()
    layouts = torch.from_numpy(scenes[:, AT["layout"]])
    return agreement(judge.name(pictures, layouts), scenes)


def _worn(pictures: Tensor, draws: Draws) -> Tensor:
    """Soft edges and a little noise, as a decoder leaves them."""
    if draws.numpy.random() < _BLURRED_SHARE:
        share = draws.numpy.random()
        wide = functional.pad(pictures, (1, 1, 1, 1), mode="replicate")
        pictures = torch.lerp(pictures, functional.avg_pool2d(wide, 3, 1), share)
    noise = draws.normal(*pictures.shape) * (_NOISE / 2 * draws.numpy.random())
    return (pictures + noise).clamp(0, 1)

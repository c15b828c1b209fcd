"""The training loop of every part: steps, averaged weights, checkpoints, a log of what was reached.

A part says what is trained, what a step's loss is and how good it is; this file knows no part.
With a budget in steps the result depends on seed, device and thread count alone; with one in
minutes the learning rate follows the clock. Every checkpoint holds all that is needed to go on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sdbatch.models.draws import Draws
from sdbatch.models.muon import optimizers_for

SAVE_EVERY_S = 240.0
WARMUP_STEPS = 50
CONSTANT_SHARE = 0.6
LEAST_RATE = 0.02
CLIP = 1.0
AVERAGE = 0.999
_TELL_EVERY = 50


class Part(Protocol):
    """What is trained."""

    name: str
    model: nn.Module
    learning_rate: float

    def loss(self, draws: Draws) -> Tensor:
        """The loss of one step, to be derived."""
        ...

    def measure(self) -> dict[str, float]:
        """How good the model is as it stands; 1 is all, or decibels."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to train: in steps, or in minutes of this part's own time, earlier legs included."""

    steps: int | None = None
    minutes: float | None = None

    def spent(self, step: int, seconds: float) -> float:
        """The share that is used up; 1 and more is the end."""
        if self.steps is not None:
            return step / max(self.steps, 1)
        return seconds / max(60 * (self.minutes or 0.0), 1e-9)


@dataclass
class Training:
    """One part's training: where it stands, and how it goes on.

    Attributes:
        folder: Where checkpoint and log are kept.
        measure_every_s: Seconds between two measurements; each comes with a checkpoint.
    """

    part: Part
    folder: Path
    seed: int = 0
    measure_every_s: float = 900.0
    step: int = 0
    seconds: float = 0.0
    average: list[Tensor] = field(default_factory=list)
    optimizers: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.average = [p.detach().clone() for p in self._trained()]
        self.optimizers = optimizers_for(self.part.model, self.part.learning_rate)

    def run(self, budget: Budget) -> dict[str, float]:
        """Train until the budget is used up; the part's model ends with the averaged weights.

        Returns:
            What the part measured at the end.

        Raises:
            ArithmeticError: The loss is not finite.
        """
        last, saved, measured = time.monotonic(), self.seconds, self.seconds
        losses: list[float] = []
        self.part.model.train()
        while (spent := budget.spent(self.step, self.seconds)) < 1:
            losses.append(self._one_step(rate(self.step, spent) * self.part.learning_rate))
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if self.step % _TELL_EVERY == 0:
                self._tell(loss=sum(losses) / len(losses))
                losses.clear()
            if self.seconds - saved > SAVE_EVERY_S:
                saved = self.seconds
                self.save()
                if self.seconds - measured > self.measure_every_s:
                    measured = self.seconds
                    self._measure()
                last = time.monotonic()
        self.save()
        result = self._measure()
        self._use_average()
        return result

    def save(self) -> None:
        """Write the checkpoint; the last one stands until the new one is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held = {
            "step": self.step,
            "seconds": self.seconds,
            "model": self.part.model.state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        path = self._checkpoint()
        torch.save(held, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def resume(self) -> bool:
        """Go on from the checkpoint; False when there is none."""
        if not self._checkpoint().exists():
            return False
        held: Mapping[str, Any] = torch.load(self._checkpoint(), weights_only=True)
        self.step, self.seconds = int(held["step"]), float(held["seconds"])
        self.part.model.load_state_dict(held["model"])
        for mine, kept in zip(self.average, held["average"], strict=True):
            mine.copy_(kept)
        for optimizer, state in zip(self.optimizers, held["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        return True

    def _checkpoint(self) -> Path:
        return self.folder / f"{self.part.name}.pt"

    def _trained(self) -> list[Tensor]:
        return [p for p in self.part.model.parameters() if p.requires_grad]

    def _one_step(self, lr: float) -> float:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        loss = self.part.loss(Draws(self.seed, self.step))
        if not torch.isfinite(loss):
            raise ArithmeticError(
                f"{self.part.name}, step {self.step}: the loss is {float(loss)}; go on from the "
                "checkpoint with a smaller learning rate"
            )
        self.part.model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._trained(), CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self._trained(), 1 - keep)
        return float(loss.detach())

    def _measure(self) -> dict[str, float]:
        self.part.model.eval()
        with self._averaged(), torch.no_grad():
            result = self.part.measure()
        self.part.model.train()
        self._tell(**result)
        return result

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model with its averaged weights, for the time of the context."""
        kept = [p.detach().clone() for p in self._trained()]
        self._use_average()
        yield
        with torch.no_grad():
            torch._foreach_copy_(self._trained(), kept)

    def _use_average(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._trained(), self.average)
        self.part.model.eval()

    def _tell(self, **figures: float) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {"part": self.part.name, "step": self.step, "seconds": round(self.seconds, 1)}
        rounded = {name: round(value, 4) for name, value in figures.items()}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line | rounded) + "\n")


def rate(step: int, spent: float) -> float:
    """The share of the full learning rate: a short rise, a plain, a straight way down."""
    rise = min(1.0, (step + 1) / WARMUP_STEPS)
    fall = (1 - spent) / (1 - CONSTANT_SHARE)
    return rise * max(LEAST_RATE, min(1.0, fall))

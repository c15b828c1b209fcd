"""Models that fail in chosen passes."""

from __future__ import annotations

import torch


class Culprit:
    """A model that raises when a marked prompt is among its inputs."""

    def __init__(self, model, marked, error):
        self._model, self._marked, self._error = model, marked, error
        self.channels, self.device = model.channels, model.device
        self.num_numbers, self.row_numbers = model.num_numbers, model.row_numbers
        self.failed = 0

    def predict(self, inputs):
        if any(torch.equal(lane, self._marked) for lane in inputs.embeds):
            self.failed += 1
            raise self._error
        return self._model.predict(inputs)


class Forgetful:
    """A model that runs out of memory in its first passes."""

    def __init__(self, model, times):
        self._model, self.times = model, times
        self.channels, self.device = model.channels, model.device
        self.num_numbers, self.row_numbers = model.num_numbers, model.row_numbers

    def predict(self, inputs):
        if self.times:
            self.times -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._model.predict(inputs)

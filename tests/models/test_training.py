"""A training is the same whether it is interrupted or not, and says how it went."""

import json

import pytest
import torch
from torch import nn

from sdbatch.models.training import CONSTANT_SHARE, Budget, Training, rate


class Line:
    """A part that is as small as a part can be."""

    name = "line"
    learning_rate = 0.01

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 1))

    def loss(self, draws):
        x = draws.normal(8, 16)
        return ((self.model(x) - x.sum(1, keepdim=True)) ** 2).mean()

    def measure(self):
        return {"weight": float(self.model[0].weight.detach().sum())}


def _weights(part):
    return torch.cat([p.detach().flatten() for p in part.model.parameters()])


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path):
    whole = Line()
    Training(whole, tmp_path / "whole").run(Budget(steps=40))
    halves = Line()
    first = Training(halves, tmp_path / "halves")
    for step in range(17):
        first._one_step(rate(step, step / 40) * halves.learning_rate)
    first.save()

    again = Line()
    second = Training(again, tmp_path / "halves")
    assert second.resume()
    assert second.step == 17
    second.run(Budget(steps=40))

    assert torch.equal(_weights(again), _weights(whole))


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path):
    assert not Training(Line(), tmp_path).resume()


def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_checkpoint(tmp_path):
    part = Line()
    training = Training(part, tmp_path)
    training.run(Budget(steps=3))
    part.loss = lambda draws: torch.tensor(float("nan"))

    with pytest.raises(ArithmeticError, match="line, step 3"):
        training.run(Budget(steps=5))
    assert Training(Line(), tmp_path).resume()


def test_a_seed_decides_the_weights(tmp_path):
    made = []
    for seed in (1, 1, 2):
        part = Line()
        Training(part, tmp_path / str(len(made)), seed).run(Budget(steps=5))
        made.append(_weights(part))

    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_averaged_weights_are_measured_and_kept(tmp_path):
    part = Line()
    training = Training(part, tmp_path)
    training.run(Budget(steps=60))

    assert torch.equal(_weights(part), torch.cat([a.flatten() for a in training.average]))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [50, 60]
    assert lines[1]["weight"] == pytest.approx(part.measure()["weight"], abs=1e-3)


def test_the_budget_in_minutes_counts_earlier_legs():
    assert Budget(minutes=2).spent(0, 60) == 0.5
    assert Budget(steps=10).spent(10, 0) == 1


def test_the_rate_rises_stays_and_falls():
    assert rate(0, 0) < 0.1
    assert rate(1000, CONSTANT_SHARE / 2) == 1
    assert rate(1000, 0.8) == pytest.approx(0.5)
    assert 0 < rate(1000, 0.9999) < 0.05

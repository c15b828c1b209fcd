"""Muon's steps: equal in all directions, and never for what is no matrix."""

import torch
from torch import nn

from sdbatch.models.muon import Muon, optimizers_for, orthogonal


def test_what_it_makes_is_nearly_orthogonal_whatever_the_matrix():
    torch.manual_seed(0)
    for shape in ((3, 16, 40), (2, 40, 16), (1, 24, 24)):
        made = orthogonal(torch.randn(shape) * 100)

        sizes = torch.linalg.svdvals(made)
        assert sizes.min() > 0.4
        assert sizes.max() < 1.4


def test_matrices_go_with_muon_and_the_rest_with_adamw():
    model = nn.Sequential(
        nn.Embedding(100, 32), nn.Conv2d(32, 32, 3), nn.Linear(32, 4), nn.GroupNorm(4, 32)
    )

    muon, adamw = optimizers_for(model, 0.1)

    assert [p.shape for p in muon.param_groups[0]["params"]] == [(32, 32, 3, 3)]
    assert len(adamw.param_groups[0]["params"]) == 6


def test_frozen_parameters_are_left_alone():
    model = nn.Linear(32, 32).requires_grad_(False)
    model.bias.requires_grad_(True)

    (only,) = optimizers_for(model, 0.1)

    assert [p.shape for p in only.param_groups[0]["params"]] == [(32,)]


def test_it_goes_downhill():
    torch.manual_seed(0)
    weight, wanted = nn.Parameter(torch.zeros(16, 48)), torch.randn(16, 48)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.0)
    before = ((weight - wanted) ** 2).mean()
    for _ in range(60):
        optimizer.zero_grad()
        ((weight - wanted) ** 2).mean().backward()
        optimizer.step()

    assert ((weight - wanted) ** 2).mean() < before / 3

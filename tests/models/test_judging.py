"""The judge finds objects, names what it sees, and counts only what is meant."""

import numpy as np
import pytest
import torch

from sdbatch.models.drawing import draw
from sdbatch.models.judge_part import JudgePart, held_out, judge_real_pictures
from sdbatch.models.judging import UNSEEN, Judge, agreement, cut_out, load_judge, save_judge
from sdbatch.models.training import Training
from sdbatch.models.world import AT, COLUMNS, random_scenes


def _perfect(scenes):
    return {name: scenes[:, AT[name]].copy() for name in COLUMNS}


def test_all_agree_when_everything_is_named_right():
    scenes = random_scenes(200, np.random.default_rng(0))

    assert set(agreement(_perfect(scenes), scenes).values()) == {1.0}


def test_a_wrong_colour_counts_against_the_colour_the_core_and_all():
    scenes = random_scenes(200, np.random.default_rng(0))
    named = _perfect(scenes)
    named["colour_1"][:50] = UNSEEN

    table = agreement(named, scenes)
    assert table["colour_1"] == table["core"] == table["all"] == 0.75
    assert table["shape_1"] == 1


def test_what_a_scene_does_not_have_cannot_be_wrong():
    scenes = random_scenes(200, np.random.default_rng(0))
    named = _perfect(scenes)
    single = scenes[:, AT["layout"]] == 0
    named["shape_2"][single] = UNSEEN
    named["place"][~single] = UNSEEN

    assert set(agreement(named, scenes).values()) == {1.0}


def test_an_object_fills_its_crop_wherever_it_lies():
    scenes = random_scenes(300, np.random.default_rng(2))
    pictures = draw(scenes, np.random.default_rng(2))

    crops, found = cut_out(pictures, torch.from_numpy(scenes[:, AT["layout"]]), 1)

    assert found.all()
    inside = (crops[:, 3] > 0).float()
    assert (inside[:, 8:24, 8:24].mean((1, 2)) > inside[:, :2].mean((1, 2))).float().mean() > 0.95
    assert (inside.mean((1, 2)) > 0.1).all()


def test_an_empty_picture_has_no_object():
    crops, found = cut_out(torch.full((2, 3, 64, 64), 0.5), torch.tensor([0, 1]), 1)

    assert not found.any()
    assert torch.isfinite(crops).all()
    named = Judge().eval().name(torch.full((2, 3, 64, 64), 0.5), torch.tensor([0, 1]))
    assert (named["shape_1"] == UNSEEN).all()


def test_a_stored_judge_names_the_same(tmp_path):
    torch.manual_seed(0)
    judge = Judge().eval()
    save_judge(judge, tmp_path / "judge.safetensors")
    again = load_judge(tmp_path / "judge.safetensors")
    scenes, pictures = held_out(20)

    layouts = torch.from_numpy(scenes[:, AT["layout"]])
    one, other = judge.name(pictures, layouts), again.name(pictures, layouts)
    assert all(np.mean(one[name] == other[name]) > 0.9 for name in COLUMNS)


def test_training_teaches_it_something(tmp_path):
    torch.manual_seed(0)
    part = JudgePart(Judge(), 8)
    training = Training(part, tmp_path)
    first = np.mean([training._one_step(2e-3) for _ in range(3)])
    later = [training._one_step(2e-3) for _ in range(25)][-3:]

    assert np.mean(later) < first * 0.9


@pytest.mark.render
def test_the_shipped_judge_is_right_on_real_pictures():
    assert min(judge_real_pictures(load_judge()).values()) > 0.98

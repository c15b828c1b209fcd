"""Scenes are what they say, and pictures of them differ only where classes leave room."""

import numpy as np
import pytest
import torch

from sdbatch.models.drawing import SIDE_PX, draw
from sdbatch.models.outlines import OUTLINES
from sdbatch.models.world import (
    AT,
    CLASSES,
    COLOURS,
    COLUMNS,
    PATTERNS,
    SHAPES,
    has_two,
    meant,
    random_scenes,
)


def _scene(**classes):
    row = np.zeros((1, len(COLUMNS)), np.int64)
    row[0, AT["background"]] = list(COLOURS).index("white")
    for name, value in classes.items():
        row[0, AT[name]] = value
    return row


def test_scenes_stay_within_their_classes_and_every_class_occurs():
    scenes = random_scenes(20_000, np.random.default_rng(0))

    for name, mask in meant(scenes).items():
        assert set(scenes[mask, AT[name]]) <= set(range(CLASSES[name]))
        if name not in ("size_2",):
            assert len(set(scenes[:, AT[name]])) == CLASSES[name]
    assert 0.3 < has_two(scenes).mean() < 0.4


def test_no_object_has_the_colour_of_its_background():
    scenes = random_scenes(5000, np.random.default_rng(1))

    assert (scenes[:, AT["colour_1"]] != scenes[:, AT["background"]]).all()
    assert (scenes[:, AT["colour_2"]] != scenes[:, AT["background"]]).all()


def test_the_same_generator_draws_the_same_pictures():
    first, again = (
        draw(random_scenes(20, rng), rng) for rng in (np.random.default_rng(3) for _ in range(2))
    )

    assert torch.equal(first, again)
    assert first.shape == (20, 3, SIDE_PX, SIDE_PX)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("shape", range(len(SHAPES)), ids=SHAPES)
def test_a_shape_has_its_colour_inside_and_the_background_in_the_corners(shape):
    red = list(COLOURS).index("red")
    picture = draw(
        _scene(shape_1=shape, colour_1=red, size_1=2), np.random.default_rng(0), side_px=128
    )[0]

    is_red = (picture[0] > 0.7) & (picture[1] < 0.3)
    assert 0.03 < is_red.float().mean() < 0.5
    assert (picture[:, :4, :4] > 0.9).all()
    assert OUTLINES[SHAPES[shape]](torch.tensor([2.0]), torch.tensor([2.0])) > 0


def test_a_second_object_is_drawn_only_where_the_layout_has_two():
    alone = draw(_scene(), np.random.default_rng(5))
    pair = draw(_scene(layout=1, colour_2=5), np.random.default_rng(5))

    assert (alone[0, :, :, :8] > 0.9).all()
    blue = (pair[0, 2] > 0.7) & (pair[0, 0] < 0.3)
    assert blue[:, SIDE_PX // 2 :].any()
    assert not blue[:, : SIDE_PX // 2].any()


def test_an_outline_of_the_backgrounds_colour_does_not_count():
    white, blue, yellow = (list(COLOURS).index(name) for name in ("white", "blue", "yellow"))
    outlined = PATTERNS.index("outlined")
    hidden, seen = (
        _scene(pattern_1=outlined, colour_1=colour, background=white) for colour in (blue, yellow)
    )

    assert not meant(hidden)["pattern_1"].any()
    assert meant(seen)["pattern_1"].all()
    assert meant(_scene(pattern_1=1, colour_1=blue, background=white))["pattern_1"].all()


def test_places_are_where_their_names_say():
    for place, (across, down) in {1: (-1, -1), 5: (1, 0), 7: (0, 1)}.items():
        picture = draw(_scene(place=place, colour_1=9), np.random.default_rng(1))[0]
        dark = (picture.mean(0) < 0.4).nonzero().float().mean(0) - SIDE_PX / 2

        assert torch.sign(dark.round(decimals=-1)).tolist() == [down, across]

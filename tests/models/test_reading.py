"""Captions mean one scene, and it can be read back from them."""

from random import Random

import numpy as np
import pytest

from sdbatch.models.captions import fragment, full_caption, loose_caption
from sdbatch.models.reading import read_caption
from sdbatch.models.world import AT, COLUMNS, random_scenes


def _said(scene):
    """A scene without what no caption speaks of."""
    return [
        value
        for name, value in zip(COLUMNS, scene, strict=True)
        if scene[AT["layout"]] or not name.endswith("_2")
    ]


@pytest.mark.parametrize("seed", range(4))
def test_a_full_caption_is_read_back_as_its_scene(seed):
    random = Random(seed)
    for scene in random_scenes(1000, np.random.default_rng(seed)).tolist():
        text = full_caption(scene, random)

        read = read_caption(text)

        assert read is not None, text
        assert _said(read) == _said(scene), text


@pytest.mark.parametrize(
    "text", ["", "a cat", "a red circle", "on a white background", "猫", "circle on black", "a, b"]
)
def test_what_does_not_say_everything_is_not_read(text):
    assert read_caption(text) is None


def test_a_reversed_relation_turns_the_objects():
    straight = read_caption("a red star above a blue ring on white")

    assert straight == read_caption("a blue ring below a red star, white background")
    assert straight == read_caption("white background, a red star on top of a blue ring")


def test_loose_captions_leave_things_out_and_full_ones_never_do():
    scenes = random_scenes(300, np.random.default_rng(0)).tolist()
    random = Random(1)

    loose = [read_caption(loose_caption(scene, random)) for scene in scenes]
    assert 20 < sum(read is None for read in loose) < 280
    assert all(read_caption(fragment(scene, random)) is None for scene in scenes)

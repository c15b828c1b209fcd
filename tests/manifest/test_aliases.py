import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.aliases import ALIASES, match_columns, renamed
from sdbatch.manifest.schema import CANONICAL, LATER

KNOWN = {*CANONICAL, *LATER}


def read_as(*names):
    return {view.stored: view.name for view in match_columns("m", names, KNOWN).views}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["TEXT", "Steps"], {"TEXT": "prompt", "Steps": "num_inference_steps"}),
        (["Negative prompt", "CFG scale"], {"Negative prompt": "negative_prompt",
                                            "CFG scale": "guidance_scale"}),
        (["gen-seeds", "clip-skips"], {"gen-seeds": "seed", "clip-skips": "clip_skip"}),
        (["image_name", "Prompt"], {"image_name": "id", "Prompt": "prompt"}),
        (["p", "se", "st", "c", "sa"], {"p": "prompt", "se": "seed", "st": "num_inference_steps",
                                        "c": "guidance_scale", "sa": "scheduler"}),
        (["denoise", "ckpt_name"], {"denoise": "strength", "ckpt_name": "model"}),
        (["sampler_name", "scheduler"], {"sampler_name": "scheduler",
                                         "scheduler": "schedule_type"}),
        (["Sampler", "Schedule type"], {"Sampler": "scheduler",
                                        "Schedule type": "schedule_type"}),
    ],
)  # fmt: skip
def test_other_tools_names_are_read_whatever_their_case(names, wanted):
    assert read_as(*names) == wanted


def test_names_of_one_letter_are_the_users_own_beside_a_prompt():
    assert read_as("prompt", "c", "p") == {"prompt": "prompt"}


def test_a_size_is_width_and_height_and_a_clip_skip_of_a1111_counts_from_one():
    views = match_columns("m", ["prompt", "Size", "Clip skip"], KNOWN).views

    assert [(view.name, view.part) for view in views] == [
        ("prompt", ""),
        ("width", "width"),
        ("height", "height"),
        ("clip_skip", "one-based"),
    ]
    assert renamed(views) == {"Size": "width, height", "Clip skip": "clip_skip"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["prompt", "caption"], "column 'caption': means 'prompt', and so does column 'prompt': "
                                "rename 'caption', for example to 'source_caption'"),
        (["Text", "text"], "rename"),
        (["steps", "num_inference_steps"], "and so does column 'steps': rename 'steps'"),
        (["size", "width"], "means 'width', and so does column 'size': rename 'size'"),
        (["a", "a"], "column 'a': stands twice"),
    ],
)  # fmt: skip
def test_two_columns_for_one_name_are_refused_with_both(names, words):
    with pytest.raises(ManifestError, match=r"^m.csv, column ") as caught:
        match_columns("m.csv", names, KNOWN)

    assert words in str(caught.value)


def test_every_alias_means_a_column_that_is_known():
    assert set(ALIASES.values()) <= KNOWN
    assert not set(ALIASES) & KNOWN

"""Random weights: the published sizes, finite pictures, the same ones every time."""

import numpy as np
import pytest
import torch

from sdbatch.model_specs import RenderSpec
from sdbatch.render.architecture import find_architecture
from sdbatch.render.random_model import (
    RandomTokenizer,
    count_parameters,
    load_random,
    make_rooms,
)
from tests.render.drawing import make_row, pictures

META = torch.device("meta")


@pytest.mark.parametrize(
    ("name", "texts", "unet"),
    [
        ("sd15", {"text_encoder": 123_060_480}, 859_520_964),
        ("sd21", {"text_encoder": 340_387_840}, 865_910_724),
        ("sdxl", {"text_encoder": 123_060_480, "text_encoder_2": 694_659_840}, 2_567_463_684),
    ],
)
def test_an_architecture_has_the_parameters_of_the_published_model(name, texts, unet):
    rooms = make_rooms(find_architecture(name), META, torch.float32)

    assert count_parameters(rooms) == texts | {"unet": unet, "vae": 83_653_863}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_made_in_the_number_format_that_was_asked_for(dtype):
    rooms = make_rooms(find_architecture("shapes"), torch.device("cpu"), dtype)
    parts = [rooms.components[name] for name in ("text_encoder", "unet", "vae")]

    assert {weight.dtype for part in parts for weight in part.parameters()} == {dtype}
    assert torch.get_default_dtype() == torch.float32


def test_making_weights_leaves_the_random_numbers_of_the_process_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make_rooms(find_architecture("shapes"), torch.device("cpu"), torch.float32)

    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_random_weights_draw_finite_pictures_and_the_same_ones_again(dtype):
    spec = RenderSpec("shapes", "", "", dtype, {"32x32": 4}, 1)
    rows = [make_row(i, num_inference_steps=2 + i) for i in range(3)]
    first, second = (
        pictures(load_random(spec, find_architecture("shapes")).render(rows)) for _ in range(2)
    )

    assert first.keys() == {0, 1, 2}
    assert all(np.array_equal(first[i], second[i]) for i in first)
    assert len({picture.tobytes() for picture in first.values()}) == 3


def test_a_random_tokenizer_gives_each_prompt_ids_of_its_own():
    tokenizer = RandomTokenizer(1000, 77)
    ids = tokenizer(["a", "b", "a"], padding="max_length").input_ids

    assert ids.shape == (3, 77)
    assert int(ids.max()) < 1000
    assert torch.equal(ids[0], ids[2])
    assert not torch.equal(ids[0], ids[1])
    assert [len(short) for short in tokenizer(["a", "b"]).input_ids] == [2, 2]

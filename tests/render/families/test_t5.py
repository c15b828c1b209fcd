"""T5 gives every prompt one shape, and embeddings that no neighbour changes."""

from __future__ import annotations

import pytest
import torch

from sdbatch.render.families.t5 import T5, load_t5
from tests.render.tiny_models import T5_WIDTH, save_t5

pytestmark = pytest.mark.render

LENGTH = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("t5")
    save_t5(made, "tokenizer_2", "text_encoder_2")
    return made


def load(folder, masked=False) -> T5:
    place = ("tokenizer_2", "text_encoder_2", LENGTH)
    return load_t5(folder, *place, torch.device("cpu"), torch.float32, masked)


def embed(model: T5, *prompts: str) -> torch.Tensor:
    with torch.inference_mode():
        return model.embed(model.tokenize(prompts)[0])


def test_every_prompt_has_one_shape_and_the_long_ones_are_named(folder):
    model = load(folder)

    tokens, cut = model.tokenize(["", "a red circle", "a red circle " * 9])

    assert tokens.shape == (3, 2, LENGTH)
    assert cut == [False, False, True]
    assert tokens[:, 1].sum(1).tolist() == [1, len("a red circle") + 2, LENGTH]
    assert model.embed(tokens).shape == (3, LENGTH, T5_WIDTH) == (3, LENGTH, model.width)


def test_a_prompt_of_just_the_length_is_not_cut(folder):
    letters = "a" * (LENGTH - 2)  # a word's mark before it, the end's behind

    assert load(folder).tokenize([letters, letters + "a"])[1] == [False, True]


def test_the_mask_reaches_the_encoder_only_where_a_family_wants_it(folder):
    seen, masked = embed(load(folder), "a cat"), embed(load(folder, masked=True), "a cat")

    assert not torch.allclose(seen, masked)


def test_the_embeddings_are_those_of_the_encoder_called_for_the_prompt_alone(folder):
    model = load(folder)
    found = embed(model, "a cat", "a much longer dog", "")[1]
    ids = model.tokenizer(
        "a much longer dog", padding="max_length", max_length=LENGTH, return_tensors="pt"
    ).input_ids

    wanted = model.encoder(ids)[0][0]

    assert torch.allclose(found, wanted, atol=1e-6)

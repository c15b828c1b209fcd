"""Prompts are encoded once, alone in effect, and within a bound."""

from __future__ import annotations

import pytest
import torch

from sdbatch.errors import InputError
from sdbatch.render.text_encoder import CHUNK, TextEncoder


class CountingModel:
    """One token per letter, and a record of every batch."""

    weighted, zero_negative = False, False

    def __init__(self):
        self.batches = []

    def tokenize(self, prompts):
        self.batches.append(list(prompts))
        tokens = torch.tensor([[len(prompt), hash(prompt) % 97] for prompt in prompts])
        return tokens, [len(prompt) > 5 for prompt in prompts]

    def embed(self, tokens):
        return tokens.float()[:, :, None].expand(-1, -1, 4)

    def shape(self, num_chunks=1):
        return (2 * num_chunks, 4)


def test_equal_prompts_are_encoded_once():
    model = CountingModel()
    encoder = TextEncoder(model)

    encoder.encode(["a", "b", "a"])
    encoder.encode(["b", "a"])

    assert model.batches == [["a", "b"] + [""] * (CHUNK - 2)]


def test_weights_are_refused_where_the_model_reads_plain_prompts_only():
    encoder = TextEncoder(CountingModel())

    for ask in (encoder.num_chunks, lambda prompts, syntax: encoder.encode(prompts, (), syntax)):
        with pytest.raises(InputError, match="a1111: this model reads plain prompts only"):
            ask(["(red:1.2) star"], "a1111")


def test_no_negative_prompt_is_zeros_only_where_the_family_says_so():
    model = CountingModel()
    (found,) = TextEncoder(model).encode(["a"])

    assert TextEncoder(model).no_negative(found) is None
    model.zero_negative = True
    nothing = TextEncoder(model).no_negative(found)
    assert nothing.embeds.shape == found.embeds.shape
    assert not nothing.embeds.any()


def test_every_call_of_the_model_has_one_shape():
    model = CountingModel()

    TextEncoder(model).encode([f"p{i}" for i in range(CHUNK + 3)])

    assert [len(batch) for batch in model.batches] == [CHUNK, CHUNK]


def test_prompts_wanted_soon_fill_the_empty_places():
    model = CountingModel()
    encoder = TextEncoder(model)

    encoder.encode(["now"], ahead=["soon", "now", "later"])
    encoder.encode(["soon", "later"])

    assert model.batches == [["now", "soon", "later"] + [""] * (CHUNK - 3)]


def test_the_least_recently_used_prompt_leaves_first():
    model = CountingModel()
    encoder = TextEncoder(model, cache_bytes=3 * 2 * 4 * 4)
    encoder.encode(["a", "b", "c"])
    encoder.encode(["a"])

    encoder.encode(["d"])
    encoder.encode(["a", "c"])
    encoder.encode(["b"])

    assert [batch[0] for batch in model.batches] == ["a", "d", "b"]


def test_a_prompt_larger_than_the_cache_is_still_encoded():
    encoder = TextEncoder(CountingModel(), cache_bytes=1)

    assert len(encoder.encode(["a", "b", "c"])) == 3


def test_cut_prompts_are_told_from_whole_ones():
    found = TextEncoder(CountingModel()).encode(["short", "too long"])

    assert [each.truncated for each in found] == [False, True]


@pytest.mark.render
def test_an_embedding_does_not_depend_on_what_is_encoded_beside_it(renderer):
    model = renderer.text_encoder._model
    alone = TextEncoder(model).encode(["a red star"])[0].embeds

    for place in range(CHUNK):
        others = [f"prompt {i}" for i in range(place)]
        found = TextEncoder(model).encode([*others, "a red star", "blue"])[place].embeds
        assert torch.equal(found, alone)


@pytest.mark.render
def test_only_a_prompt_over_the_models_length_is_cut(renderer):
    length = renderer.text_encoder._model.embeds_shape[0]
    fitting, over = ("red " * (length - 2)).strip(), ("red " * (length - 1)).strip()

    found = renderer.text_encoder.encode([fitting, over])

    assert [each.truncated for each in found] == [False, True]

"""The tokenizer knows its world by whole words, and any text by bytes."""

import pytest
import transformers

from sdbatch.models.captions import SYNONYMS
from sdbatch.models.tokens import END, LENGTH, START, make_tokenizer
from sdbatch.models.world import COLOUR_NAMES, SHAPES


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def test_every_word_of_the_world_is_one_token(tokenizer):
    for word in (*SHAPES, *COLOUR_NAMES, *(word for some in SYNONYMS.values() for word in some)):
        assert len(tokenizer.tokenize(word)) == 1, word


@pytest.mark.parametrize("text", ["猫と犬", "🙂", "Žluťoučký kůň", "\u202eevil", "ZZZqqq"])
def test_any_text_becomes_tokens_of_its_bytes(tokenizer, text):
    tokens = tokenizer(text).input_ids[1:-1]

    assert tokens
    assert tokenizer.convert_tokens_to_ids(END) not in tokens


def test_it_is_the_same_each_time_and_after_it_was_stored(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    stored = transformers.CLIPTokenizer.from_pretrained(tmp_path)

    assert make_tokenizer().get_vocab() == tokenizer.get_vocab()
    text = "A large striped yellow star, on a white backdrop. 猫"
    assert stored(text).input_ids == tokenizer(text).input_ids
    assert stored.model_max_length == LENGTH


def test_captions_begin_and_end_with_their_marks(tokenizer):
    made = tokenizer("red " * 100, truncation=True, padding="max_length").input_ids

    assert len(made) == LENGTH
    assert tokenizer.convert_ids_to_tokens([made[0], made[-1]]) == [START, END]

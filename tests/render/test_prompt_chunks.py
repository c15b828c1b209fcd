"""Prompts become chunks of tokens: full, ended by a break, or at a comma."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.manifest.prompt_syntax import MAX_CHUNKS
from sdbatch.render.prompt_chunks import COMMA_REACH, KEPT_PROMPTS, Frame, PromptChunks

ROOM = 30
BEGIN, END, FILL, COMMA = 1000, 1001, 1002, 44


class Letters:
    """One token a character, spaces left out."""

    frame = Frame(BEGIN, END, FILL, COMMA, ROOM + 2)

    def __init__(self):
        self.calls = 0

    def words(self, texts):
        self.calls += 1
        return [[ord(letter) for letter in text if letter != " "] for text in texts]


def cut(prompt):
    """The letters of each chunk, without frame and filling."""
    chunks = PromptChunks(Letters()).cut(prompt)
    return ["".join(map(chr, chunk.tokens[1 : chunk.used - 1])) for chunk in chunks]


def test_a_chunk_is_framed_and_filled_up_and_only_its_words_are_weighed():
    (chunk,) = PromptChunks(Letters()).cut("(ab:1.5)c")

    assert chunk.tokens == (BEGIN, 97, 98, 99, END, *[FILL] * (ROOM - 3))
    assert chunk.weights == (1.0, 1.5, 1.5, 1.0, 1.0, *[1.0] * (ROOM - 3))
    assert chunk.used == 5


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("x" * ROOM, ["x" * ROOM]),
        ("x" * ROOM + "y", ["x" * ROOM, "y"]),
        ("a BREAK b", ["a", "b"]),
        ("BREAK b", ["", "b"]),
        ("a BREAK", ["a"]),
        ("BREAK", [""]),
        ("x" * ROOM + " BREAK y", ["x" * ROOM, "y"]),
        ("x" * 20 + "," + "y" * 12, ["x" * 20 + ",", "y" * 12]),
        ("x" * 29 + "," + "y", ["x" * 29 + ",", "y"]),
        ("x" * ROOM + ",y", ["x" * ROOM, ",y"]),
        ("x" * 2 + "," + "y" * 30, ["xx," + "y" * 27, "yyy"]),
    ],
)
def test_a_full_chunk_ends_at_a_comma_that_is_near_and_a_break_ends_any(prompt, chunks):
    assert cut(prompt) == chunks


@pytest.mark.parametrize("behind", [COMMA_REACH - 1, COMMA_REACH])
def test_a_comma_is_near_among_the_last_tokens_of_the_chunk(behind):
    first = cut("x" * (ROOM - behind - 1) + "," + "y" * (behind + 1))[0]

    assert first.endswith(",") is (behind < COMMA_REACH)


@given(st.text(st.sampled_from("ab,  "), max_size=200), st.integers(1, 4))
def test_no_token_is_lost_and_no_chunk_too_long(text, parts):
    found = cut(" BREAK ".join([text] * parts))

    assert "".join(found) == (text * parts).replace(" ", "")
    assert all(len(chunk) <= ROOM for chunk in found)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a AND b", "prompt: AND composes prompts"),
        ("x" * (ROOM * MAX_CHUNKS + 1), f"takes {MAX_CHUNKS + 1} chunks .* may take {MAX_CHUNKS}"),
    ],
)
def test_what_cannot_be_drawn_is_refused(prompt, words):
    with pytest.raises(InputError, match=words):
        PromptChunks(Letters()).cut(prompt)


def test_prompts_are_cut_once_and_not_kept_for_ever():
    model = Letters()
    chunks = PromptChunks(model)
    for _ in range(3):
        chunks.cut("a")
    once = model.calls

    for number in range(KEPT_PROMPTS):
        chunks.cut(f"{number}")
    chunks.cut("a")

    assert (once, model.calls) == (1, KEPT_PROMPTS + 2)

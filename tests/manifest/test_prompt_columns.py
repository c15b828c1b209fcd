"""Whole columns of prompts: the quick look finds all that the slow one would."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.manifest.prompt_columns import (
    count_weighted,
    syntax_mask,
    text_fault,
    undrawable,
    weighted_note,
)
from sdbatch.manifest.prompt_syntax import A1111, MAX_CHUNKS, PLAIN


def column(*texts):
    return pa.chunked_array([pa.array(texts, pa.string())])


def test_the_column_decides_and_the_default_fills_what_it_leaves_open():
    table = pa.table({"prompt": ["a"] * 4, "prompt_syntax": ["a1111", "plain", None, ""]})

    assert syntax_mask(table, PLAIN, A1111).tolist() == [True, False, False, False]
    assert syntax_mask(table, A1111, A1111).tolist() == [True, False, True, True]
    assert syntax_mask(table.select(["prompt"]), A1111, A1111).tolist() == [True] * 4


def test_only_texts_of_that_syntax_are_judged():
    texts = column("a AND b", "a AND b", None, "a (b:1.2)")

    assert undrawable(texts, np.array([True, False, True, True])).tolist() == [
        *(True, False, False, False)
    ]


pieces = st.sampled_from(
    [
        *("a", "b ", "[", "]", "(", ")", ":", "|", "0.5", "1e3", " ", "\u00a0", "AND", "BREAK "),
        *("<lora:", ">", "\\", "cat", "x " * 80, "a BREAK ", "é", "9" * 8, "((((" * 4),
    ]
)


@given(st.lists(st.lists(pieces, max_size=9).map("".join) | st.text(), min_size=1, max_size=8))
@settings(max_examples=400, deadline=None)
def test_the_quick_look_passes_over_nothing_that_cannot_be_drawn(texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]

    found = undrawable(column(*texts), np.ones(len(texts), np.bool_))

    assert found.tolist() == [bool(text_fault(text)) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "a " * 1201,
        ("a " * 76 + "BREAK ") * 8 + "a",
        "BREAK " * MAX_CHUNKS + "a",
        "(" * 60 + "a" + ":99999)" * 60 + "(" * 400 + "a",
        "((a:" + "9" * 200 + "):" + "9" * 200 + ")",
        "(" * 8000 + "a",
    ],
)
def test_long_and_deep_texts_are_looked_at(text):
    faulty = [bool(text_fault(text))]

    assert undrawable(column(text), np.array([True])).tolist() == faulty


@pytest.mark.parametrize(
    ("text", "weighted"),
    [
        ("a (b:1.2)", True),
        ("((a)) b", True),
        ("a BREAK b", True),
        ("a <lora:x:1>", True),
        ("a photo (1999), of a fox", False),
        ("ratio 1:2", False),
        ("a fox [left]", False),
        ("(left: a dog)", False),
    ],
)
def test_prompts_that_look_weighted_are_counted(text, weighted):
    assert count_weighted(pa.table({"prompt": [text, None]}), PLAIN) == int(weighted)
    assert count_weighted(pa.table({"prompt": [text, None]}), A1111) == 0


def test_the_note_names_the_flag():
    assert weighted_note(0) == ()
    assert weighted_note(1)[0].startswith("1 prompt looks weighted")
    assert "1,204 prompts look" in weighted_note(1204)[0]
    assert "--prompt-syntax a1111" in weighted_note(1204)[0]

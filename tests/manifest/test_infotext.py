"""Infotext in and out: what A1111 writes is read, what we write is read back to the character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.manifest.infotext import Infotext, format, parse

A1111 = """a red fox, (detailed:1.2)
in the snow
Negative prompt: blurry, <lora:x:1>
low quality
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 512x768, \
Model hash: 6ce0161689, Model: v1-5, Lora hashes: "x: ab12, y: cd34", Version: v1.10.1"""


def test_what_a1111_writes_is_read():
    info = parse(A1111)

    assert info.prompt == "a red fox, (detailed:1.2)\nin the snow"
    assert info.negative_prompt == "blurry, <lora:x:1>\nlow quality"
    assert info.params["Schedule type"] == "Karras"
    assert info.params["Lora hashes"] == "x: ab12, y: cd34"
    assert list(info.params)[:2] == ["Steps", "Sampler"]
    assert not info.rest


def test_what_was_read_is_written_as_it_stood():
    assert format(parse(A1111)) == A1111


@pytest.mark.parametrize(
    ("text", "prompt", "params"),
    [
        ("a fox", "a fox", {}),
        ("", "", {}),
        ("Steps: 4, Seed: 1", "", {"Steps": "4", "Seed": "1"}),
        ("time: noon, place: sea", "time: noon, place: sea", {}),
        ("a\nA: 1x1, B: 2, C: m", "a", {"A": "1x1", "B": "2", "C": "m"}),
        ("x\nSteps: 2\nTemplate: {a, b}", "x", {"Steps": "2", "Template": "{a"}),
        ("x\nSteps: 2, R: [3, 4], E: 3", "x", {"Steps": "2", "R": "[3, 4]", "E": "3"}),
        ("x\nSteps: 2, T: \"open, E: 3", "x", {"Steps": "2", "T": '"open', "E": "3"}),
        ("x\nSteps: 2, Seed: 1, Seed: 2", "x", {"Steps": "2", "Seed": "1", "Seed 2": "2"}),
    ],
)  # fmt: skip
def test_odd_infotexts(text, prompt, params):
    info = parse(text)

    assert info.prompt == prompt
    assert dict(info.params) == params


LINES = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(["Negative prompt: x", "Steps: 3, Seed: 4", " ", "a: b, c: d", '"', "\r"]),
    ),
    max_size=4,
).map("\n".join)


@given(LINES, LINES, st.dictionaries(st.sampled_from(["Seed", "Model", "A b"]), LINES))
def test_every_character_comes_back(prompt, negative, params):
    info = Infotext(prompt, negative, {"Steps": "20", **params})

    assert parse(format(info)) == info


@given(LINES)
def test_any_text_is_read(text):
    parse(text)


def test_values_that_readers_would_not_find_are_not_written():
    with pytest.raises(ValueError, match="begin with Steps"):
        format(Infotext("a", params={"Seed": "1"}))

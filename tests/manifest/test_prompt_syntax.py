"""A1111's grammar: what each bracket weighs, and that every text is a prompt."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.manifest.prompt_syntax import (
    MAX_CHUNKS,
    Adapter,
    ParsedPrompt,
    Segment,
    chunks_fault,
    escape,
    format_prompt,
    least_chunks,
    parse_prompt,
    prompt_fault,
)

LONG = 1_000_000


def weights(text):
    """(text, weight) of every segment; breaks are None."""
    found = []
    for number, part in enumerate(parse_prompt(text).parts):
        found += [None] * bool(number)
        found += [(each.text, pytest.approx(each.weight)) for each in part]
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(red:1.4) circle", [("red", 1.4), (" circle", 1.0)]),
        ("(red : 1.4 )", [("red ", 1.4)]),
        ("(red:-.5)", [("red", -0.5)]),
        ("[faint]", [("faint", 1 / 1.1)]),
        ("((a))", [("a", 1.21)]),
        ("([a])", [("a", 1.0)]),
        ("((a:2):3)", [("a", 6.0)]),
        ("(a (b:0.5))", [("a ", 1.1), ("b", 0.55)]),
        ("(one)(two)", [("onetwo", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        (r"a \\ b \x", [(r"a \ b x", 1.0)]),
        ("a: b", [("a: b", 1.0)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(AND_x)", [("AND_x", 1.1)]),
    ],
)
def test_brackets_weigh_what_stands_in_them(text, found):
    assert weights(text) == found
    assert not parse_prompt(text).unsupported


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("a ((b", [("a ", 1.0), ("b", 1.21)]),
        ("a [b (c)", [("a ", 1.0), ("b ", 1 / 1.1), ("c", 1.0)]),
        ("a) b]", [("a) b]", 1.0)]),
        ("(literal]", [("literal]", 1.1)]),
        ("a:1.2) b", [("a:1.2) b", 1.0)]),
        ("([a)b]", [("a", 1.0), ("b", 1 / 1.1)]),
        ("a:0.5]", [("a:0.5]", 1.0)]),
    ],
)
def test_a_bracket_never_closed_weighs_the_rest_and_one_that_closes_nothing_is_text(text, found):
    assert weights(text) == found


def test_the_example_of_the_documentation_weighs_what_it_says():
    text = "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."

    assert weights(text) == [
        *(("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1)),
        *(("hill", 0.55), (", sun, ", 1.1), ("sky", 1.4641), (".", 1.1)),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a BREAK b", [("a", 1.0), None, ("b", 1.0)]),
        ("a\nBREAK,b", [("a", 1.0), None, (",b", 1.0)]),
        ("BREAK", [None]),
        ("a BREAK BREAK b", [("a", 1.0), None, None, ("b", 1.0)]),
        ("(a BREAK b:2)", [("a", 2.0), None, ("b", 2.0)]),
        ("a break BREAKER b", [("a break BREAKER b", 1.0)]),
    ],
)
def test_break_parts_a_prompt_wherever_it_stands_as_a_word(text, found):
    assert weights(text) == found


def test_adapters_leave_the_text():
    parsed = parse_prompt("a <lora:fine line:0.8>fox<lyco:b><hypernet:c:x> <b:2>")

    assert parsed.adapters == (
        Adapter("lora", "fine line", 0.8),
        Adapter("lyco", "b", 1.0),
        Adapter("hypernet", "c", 1.0),
    )
    assert parsed.parts == ((Segment("a fox <b:2>", 1.0),),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a [cat:dog:0.5] b", r"\[from:to:when\] edits the prompt .* write \\\[ and \\\]"),
        ("[(cat:1.2):10]", r"\[from:to:when\]"),
        ("[cat::5]", r"\[from:to:when\]"),
        ("[cat: 1e-1 ]", r"\[from:to:when\]"),
        ("a [cat|dog] b", r"\[a|b\] alternates prompts"),
        ("[[x] a|b]", r"\[a|b\] alternates prompts"),
        ("a AND b", "AND composes prompts, .* write 'and'"),
        ("a :1.2 AND", "AND composes"),
        ("a <lora:x:0.8>", "<lora:x:...>: this version draws without adapters, remove it"),
        ("(" * 8000 + "a", "multiply to infinity"),
        ("(a:" + "9" * 400 + ")", "multiply to infinity"),
        ("a " * 1300, f"takes 18 chunks .* may take {MAX_CHUNKS}, shorten it"),
        ("a BREAK " * MAX_CHUNKS + "a", f"takes {MAX_CHUNKS + 1} chunks"),
    ],
)
def test_what_cannot_be_drawn_is_said_with_what_would_be_right(text, words):
    assert re.search(words, prompt_fault(parse_prompt(text)))


@pytest.mark.parametrize(
    "text", ["a and b", "[cat]", r"\[cat|dog\]", "a|b", "(a|b)", "[(a|b)]", "(cat:0.5)", "x:0.5]"]
)
def test_what_only_looks_like_it_is_drawn(text):
    assert prompt_fault(parse_prompt(text)) == ""


def test_no_more_chunks_are_drawn_than_the_limit():
    assert least_chunks(parse_prompt("a BREAK " * (MAX_CHUNKS - 1) + "a")) == MAX_CHUNKS
    assert (chunks_fault(MAX_CHUNKS), bool(chunks_fault(MAX_CHUNKS + 1))) == ("", True)


@pytest.mark.parametrize(
    ("text", "chunks"),
    [("", 1), ("a", 1), ("a BREAK", 1), ("BREAK a", 2), ("a " * 75, 1), ("a " * 76, 2)],
)
def test_a_prompt_takes_at_least_a_chunk_for_75_words_and_one_a_break(text, chunks):
    assert least_chunks(parse_prompt(text)) == chunks


@given(st.text(st.sampled_from("ab :|()[]\\<>.,129+-\nBREAKNDlor"), max_size=60) | st.text())
@settings(max_examples=500, deadline=None)
def test_every_text_is_a_prompt(text):
    parsed = parse_prompt(text)

    assert all(segment.text for part in parsed.parts for segment in part)
    assert isinstance(prompt_fault(parsed), str)
    assert least_chunks(parsed) >= 1


texts = st.text(st.sampled_from("ab c:\\()[],.1"), min_size=1, max_size=12)
numbers = st.floats(-9, 9, allow_nan=False) | st.sampled_from([1.0, 1.1, 1e-7])


@st.composite
def prompts(draw):
    """A prompt as the parser gives it: neighbours differ in weight, nothing to strip at breaks."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        segments = []
        for text in draw(st.lists(texts, max_size=4)):
            before = segments[-1].weight if segments else None
            weight = draw(numbers.filter(lambda weight, before=before: weight != before))
            segments.append(Segment(text, weight))
        parts.append(segments)
    stripped = tuple(
        tuple(Segment(each.text.strip() or "x", each.weight) for each in part) for part in parts
    )
    found = draw(st.lists(st.builds(Adapter, st.just("lora"), st.just("n"), numbers), max_size=2))
    return ParsedPrompt(stripped, tuple(found))


@given(prompts())
@settings(max_examples=300, deadline=None)
def test_a_prompt_written_out_is_read_back_the_same(prompt):
    assert parse_prompt(format_prompt(prompt)) == prompt


@given(st.text(st.sampled_from("ab:\\()[].12")))
def test_escaped_text_is_that_text_and_weighs_nothing(text):
    assert "".join(each.text for part in parse_prompt(escape(text)).parts for each in part) == text
    assert {each.weight for part in parse_prompt(escape(text)).parts for each in part} <= {1.0}


@given(st.lists(st.floats(0.1, 3.0), min_size=1, max_size=8), st.integers(0, 5), st.integers(0, 5))
def test_weights_of_nested_brackets_multiply(factors, rounds, squares):
    text = "x"
    for factor in factors:
        text = f"({text}:{factor:.17f})"
    text = "(" * rounds + "[" * squares + text + "]" * squares + ")" * rounds

    ((segment,),) = parse_prompt(text).parts

    assert segment.weight == pytest.approx(math.prod(factors) * 1.1 ** (rounds - squares))


@pytest.mark.parametrize(
    "unit",
    ["(", "[", ")", ":", ": ", ":1", " ", "\\", "BREAK ", "AND ", "<lora:", "<", "a|", "[a|"],
)
def test_a_megabyte_is_read_in_time_in_proportion_to_its_length(unit):
    def seconds(length):
        text = (unit * length)[:length]
        started = time.process_time()
        prompt_fault(parse_prompt(text))
        return time.process_time() - started

    # Were it the square of the length, ten times as much would take a hundred times as long.
    # What shares the core may slow one try down, not all of them.
    assert any(seconds(LONG) < 40 * seconds(LONG // 10) + 0.5 for _ in range(4))

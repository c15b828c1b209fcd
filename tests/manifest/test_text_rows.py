"""Batches of text rows say the same as the plainest loop over them, wherever a batch ends."""

import csv
import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import ManifestError
from sdbatch.manifest import text_rows
from sdbatch.manifest.text_rows import object_batches, prompt_batches, table_batches

PIECES = st.lists(
    st.sampled_from(
        [
            "a",
            '"',
            '""',
            ",",
            "\n",
            "\r\n",
            "\r",
            "é",
            "\t",
            " ",
            '"x\ny"',
            "1,2",
            "\N{ROCKET}",
            "\\",
        ]
    ),
    max_size=40,
).map("".join)
CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


def lines_of(text):
    return list(io.StringIO(text, newline="\n"))


def by_one_row(text, delimiter=",", quoted=True):
    """Each row as the standard library reads it, with the line it begins at."""
    options = {"quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE}
    reader = csv.reader(lines_of(text), delimiter=delimiter, strict=True, **options)
    header, rows, begins = None, [], 1
    for row in reader:
        if row and header is None:
            header = row
        elif row:
            if len(row) != len(header):
                return header, rows, f"line {begins} has {len(row)} values"
            rows.append((begins, row))
        begins = reader.line_num + 1
    return header, rows, ""


def by_batches(text, **options):
    names, rows = None, []
    for batch in table_batches(lines_of(text), "x.csv", **options):
        names = names or list(batch.columns)
        rows += zip(batch.lines, map(list, zip(*batch.columns.values(), strict=True)), strict=True)
    return names, rows


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(text_rows, "BATCH_ROWS", 3)
    monkeypatch.setattr(text_rows, "BATCH_CHARS", 24)


@given(PIECES, st.booleans())
def test_any_csv_gives_the_rows_or_the_complaint_of_the_plainest_loop(pieces, quoted):
    text = f"a,b\n{pieces}"
    try:
        header, expected, wrong = by_one_row(text, quoted=quoted)
    except csv.Error:
        with pytest.raises(ManifestError):
            by_batches(text, quoted=quoted)
        return
    if wrong:
        with pytest.raises(ManifestError, match=wrong):
            by_batches(text, quoted=quoted)
        return
    names, rows = by_batches(text, quoted=quoted)
    assert rows == expected
    assert names == (header if rows else None)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12))
def test_what_a_csv_writer_wrote_comes_back_as_it_was(rows):
    sink = io.StringIO()
    csv.writer(sink).writerows([("a", "b"), *rows])
    _, found = by_batches(sink.getvalue())
    assert [tuple(row) for _, row in found] == rows


def test_rows_begin_at_their_lines_after_blank_lines_and_values_of_several_lines():
    _, rows = by_batches('a,b\n\n1,"x\n\ny"\n2,3\n\n4,5\n6,7\n8,9\n')
    assert [line for line, _ in rows] == [3, 6, 8, 9, 10]


def test_the_first_fault_is_said_though_a_worse_one_follows_in_the_batch(monkeypatch):
    monkeypatch.setattr(text_rows, "BATCH_ROWS", 100)
    monkeypatch.setattr(text_rows, "BATCH_CHARS", 10_000)
    with pytest.raises(ManifestError, match="line 3 has 1 values"):
        by_batches('a,b\n1,2\n3\n"x" y,2\n')

    def breaking_off():
        yield from ("a,b\n", "1,2,3\n")
        raise ManifestError("x.csv", -1, "", "", "line 3, byte 1 is no UTF-8")

    with pytest.raises(ManifestError, match="line 2 has 3 values"):
        list(table_batches(breaking_off(), "x.csv"))


OBJECTS = st.dictionaries(
    st.sampled_from(["prompt", "seed", "x"]),
    st.one_of(st.none(), st.integers(), st.booleans(), CELL, st.lists(st.integers(), max_size=2)),
    min_size=1,
)


@given(st.lists(st.one_of(OBJECTS, st.just("")), max_size=14))
def test_json_lines_give_every_object_with_its_line(objects):
    text = "".join(f" {json.dumps(one)} \r\n" if one else " \n" for one in objects)
    rows = []
    for batch in object_batches(lines_of(text), "x.jsonl"):
        for at, line in enumerate(batch.lines):
            rows.append((line, {key: column[at] for key, column in batch.columns.items()}))
    expected = [(line, one) for line, one in enumerate(objects, 1) if one]
    assert [line for line, _ in rows] == [line for line, _ in expected]
    for (_, found), (_, one) in zip(rows, expected, strict=True):
        assert {**dict.fromkeys(found), **one} == found


@pytest.mark.parametrize(
    "line", ["[]", "7", '"{}"', '{"a": 1} {"b": 2}', '{"a": 1}, {"b": 2}', "{"]
)
def test_a_line_that_is_no_object_is_named_wherever_it_stands(line):
    text = f'{{"a": 1}}\n\n{line}\n{{"a": 2}}\n'
    with pytest.raises(ManifestError, match=r"x\.jsonl: line 3"):
        list(object_batches(lines_of(text), "x.jsonl"))


@given(st.lists(st.sampled_from(["a fox", " ", "", "b \t"]), max_size=12))
def test_prompts_lose_their_line_ends_and_blank_lines_alone(lines):
    found = []
    for batch in prompt_batches([f"{line}\r\n" for line in lines], "x.txt"):
        found += zip(batch.lines, batch.columns["prompt"], strict=True)
    assert found == [(at, line) for at, line in enumerate(lines, 1) if line.strip()]


def test_rows_of_a_megabyte_are_held_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(text_rows, "BATCH_ROWS", 16384)
    monkeypatch.setattr(text_rows, "BATCH_CHARS", 4 << 20)
    lines = ("a,b\n" if at == 0 else f"{at},{'x' * (1 << 20)}\n" for at in range(64))
    tracemalloc.start()
    rows = sum(len(batch.lines) for batch in table_batches(lines, "x.csv"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 63
    assert peak < 40 << 20

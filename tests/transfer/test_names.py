"""Names of exported files: safe everywhere, told apart, and never outside their folder."""

import os
import sqlite3
import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.transfer.names import (
    FOLDER_ENTRIES,
    MAX_BYTES,
    TakenNames,
    Template,
    folded,
    safe_name,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=300)
NASTY = ["..", ".", "", " ", "../../etc/passwd", "/abs", "a/b\\c", "C:\\x", "~", "\x00", "a\x00b",
         "CON", "con.txt", "nul ", "aux.tar.gz", "COM¹", "LPT9", "CONIN$", "name.", "name ", ". .",
         "...", "__sdbatch", "____", ".hidden", "a\u202egpj.exe", "\ufeffx", "zero\u200bwidth",
         "line\u2028break", "\ud800", "e\u0301", "é", "ﬁ", "x" * 500, "é" * 300, "👩‍👩‍👧" * 50,
         "CON" * 50, "con" + "." * 200, "\uffff", "?*<>|\":"]  # fmt: skip
FORBIDDEN = set('<>:"/\\|?*') | {chr(code) for code in range(32)} | {"\x7f"}


def is_safe(name):
    stem = name.split(".")[0].rstrip().upper()
    reserved = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    reserved |= {f"{kind}{digit}" for kind in ("COM", "LPT") for digit in "0123456789¹²³"}
    return (
        name
        and not set(name) & FORBIDDEN
        and name[-1] not in ". "
        and name[0] not in ". "
        and not name.startswith("__")
        and stem not in reserved
        and unicodedata.is_normalized("NFC", name)
        and not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in name)
    )


@given(ANY_TEXT)
def test_any_text_becomes_one_safe_part_of_a_path(text):
    name = safe_name(text)

    assert is_safe(name), (text, name)
    assert len(name.encode()) <= MAX_BYTES - 18
    assert os.path.basename(name) == name


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_nasty_text_becomes_one_safe_part_of_a_path(text, tmp_path):
    name = safe_name(text)
    (tmp_path / f"{name}.png").write_bytes(b"x")

    assert is_safe(name)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.png"]


@given(ANY_TEXT)
def test_what_is_safe_stays_as_it_is(text):
    assert safe_name(safe_name(text)) == safe_name(text)


def test_plain_words_of_every_script_stay():
    for text in ["a red circle, 7", "grüne Katze", "赤い円", "красный круг", "דג", "ok-1_2 (3)"]:
        assert safe_name(text) == text


@given(st.lists(st.tuples(st.sampled_from(["f", "F", "g"]), ANY_TEXT), max_size=30))
def test_no_two_names_of_a_folder_can_be_taken_for_one(pairs):
    names = TakenNames(sqlite3.connect(":memory:"))
    taken = [(folder, names.take(folder, safe_name(text))) for folder, text in pairs]

    assert len({(folded(folder), folded(name)) for folder, name in taken}) == len(pairs)
    assert all(len(f"{name}.jpeg".encode()) <= MAX_BYTES and is_safe(name) for _, name in taken)


@given(
    st.lists(st.sampled_from(["a", "A", "a-2", "A-2", "a-3", "b"]), max_size=12),
    st.data(),
)
def test_numbers_do_not_depend_on_which_of_them_were_given_in_an_earlier_call(texts, data):
    whole = TakenNames(sqlite3.connect(":memory:"))
    expected = [whole.take("f", text) for text in texts]
    before = data.draw(st.sets(st.integers(0, max(len(texts) - 1, 0)), max_size=len(texts)))
    again = TakenNames(sqlite3.connect(":memory:"))
    for place in before & set(range(len(texts))):
        again.hold("f", expected[place])
    rest = [again.take("f", text) for place, text in enumerate(texts) if place not in before]

    assert rest == [name for place, name in enumerate(expected) if place not in before]


def test_collisions_are_numbered_in_order():
    names = TakenNames(sqlite3.connect(":memory:"))

    assert [names.take("f", text) for text in ["cat", "Cat", "cat-2", "CAT", "cat"]] == [
        "cat", "Cat-2", "cat-2-2", "CAT-3", "cat-4",
    ]  # fmt: skip
    assert names.take("g", "cat") == "cat"


def test_composed_and_decomposed_letters_collide():
    names = TakenNames(sqlite3.connect(":memory:"))

    assert [names.take("", safe_name(text)) for text in ["é", "e\u0301", "É"]] == [
        "é",
        "é-2",
        "É-3",
    ]


def test_many_equal_names_take_no_longer_than_many_others():
    names = TakenNames(sqlite3.connect(":memory:"))
    taken = [names.take("", "same") for _ in range(5000)]

    assert taken[-1] == "same-5000"


def test_a_full_folder_goes_on_in_numbered_ones():
    names = TakenNames(sqlite3.connect(":memory:"))
    places = [names.subfolder("cats") for _ in range(2 * FOLDER_ENTRIES + 1)]

    assert places.count("") == places.count("2") == FOLDER_ENTRIES
    assert places[-1] == "3"


def test_a_template_is_filled_from_columns():
    template = Template.parse("{id}_{seed:06d} {score:.2f}", ["id", "seed", "score"])

    assert template.columns == ("id", "seed", "score")
    assert template.fill({"id": "../a/b", "seed": 7, "score": 0.256}) == "_a_b_000007 0.26"
    assert template.fill({"id": None, "seed": 7, "score": 1}) == "none_000007 1.00"


def test_a_column_with_a_dot_in_its_name_is_one_column():
    template = Template.parse("{meta.id}_{a[0]}", ["meta.id", "a[0]"])

    assert template.fill({"meta.id": "x", "a[0]": 3}) == "x_3"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("{sed}", "did you mean 'seed'"),
        ("{id.__class__}", "no column 'id.__class__'"),
        ("{id[0]}", "no column"),
        ("{id!r}", "only {column}"),
        ("{seed:{id}}", "only {column}"),
        ("{}", "no column ''"),
        ("{0}", "no column '0'"),
        ("plain", "holds no column"),
        ("{id", "expected '}'"),
        ("{id}/{seed}", "--folder-by"),
        ("..\\{id}", "--folder-by"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused(text, right):
    with pytest.raises(InputError, match=right.replace("{", r"\{").replace("}", r"\}")):
        Template.parse(text, ["id", "seed"])


def test_a_format_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="--name"):
        Template.parse("{id:06d}", ["id"]).fill({"id": "x"})


@given(st.text(string.printable, max_size=20))
def test_a_value_is_never_read_as_a_template(value):
    assert Template.parse("{id}", ["id"]).fill({"id": value}) == safe_name(value)

"""Conditions over columns: they choose what SQL would choose, and refuse what they cannot mean."""

from __future__ import annotations

from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.dataset.where import columns, parse_where
from sdbatch.dataset.where_syntax import alternatives
from sdbatch.errors import InputError

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("clip_score", pa.float32()),
        ("num_inference_steps", pa.int32()),
        ("seed", pa.int64()),
        ("big", pa.uint64()),
        ("is_blank", pa.bool_()),
        ("nsfw", pa.bool_()),
        ("scheduler", pa.string()),
        ("created_at", pa.timestamp("us", "UTC")),
        ("my own", pa.string()),
        ("tags", pa.list_(pa.string())),
    ]
)
ROWS = [
    {
        "key": "a",
        "clip_score": 0.3,
        "num_inference_steps": 20,
        "seed": 2**40,
        "big": 2**64 - 1,
        "is_blank": False,
        "nsfw": None,
        "scheduler": "DDIMScheduler",
        "created_at": datetime(2026, 11, 21, tzinfo=UTC),
        "my own": "it's",
        "tags": ["x"],
    },
    {
        "key": "b",
        "clip_score": 0.1,
        "num_inference_steps": 21,
        "seed": -3,
        "big": 5,
        "is_blank": True,
        "nsfw": True,
        "scheduler": "EulerDiscreteScheduler",
        "created_at": datetime(2026, 11, 23, tzinfo=UTC),
        "my own": 'say "x"',
        "tags": None,
    },
    {"key": "c", "num_inference_steps": 8, "nsfw": False},
]
TABLE = pa.Table.from_pylist(ROWS, SCHEMA)


def chosen(text: str, table: pa.Table = TABLE) -> str:
    return "".join(table.filter(parse_where(text, table.schema))["key"].to_pylist())


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("clip_score > 0.25 and not is_blank", "a"),
        ("clip_score = 0.3", "a"),
        ("clip_score > 0.3", ""),
        ("0.25 > clip_score", "b"),
        ("num_inference_steps >= 20.5", "b"),
        ("num_inference_steps < 99999999999999999999", "abc"),
        ("seed == 1099511627776", "a"),
        ("seed = -3", "b"),
        ("big = 18446744073709551615", "a"),
        ("big > -1", "ab"),
        ("big > num_inference_steps", "a"),
        ("seed < num_inference_steps", "b"),
        ("is_blank", "b"),
        ("is_blank = false", "a"),
        ("not is_blank", "a"),
        ("is_blank is null", "c"),
        ("clip_score IS NOT NULL", "ab"),
        ("nsfw or is_blank", "b"),
        ("nsfw is null or not nsfw", "ac"),
        ("scheduler in ('DDIMScheduler', 'x')", "a"),
        ("scheduler not in ('DDIMScheduler', 'x')", "b"),
        ("not scheduler in ('DDIMScheduler', 'x')", "b"),
        ("num_inference_steps in (8, 21.0)", "bc"),
        ("num_inference_steps in (8, 20, 99999999999)", "ac"),
        ("clip_score in (0.1, 0.2)", "b"),
        ("scheduler like 'Euler%'", "b"),
        ("scheduler not like '%Euler%'", "a"),
        ("\"my own\" = 'it''s'", "a"),
        ('"my own" like \'%"x"\'', "b"),
        ("created_at > '2026-11-22'", "b"),
        ("created_at <= '2026-11-21 00:00:00'", "a"),
        ("created_at in ('2026-11-21', '2026-11-23T01:00:00+01:00')", "ab"),
        ("tags is null", "bc"),
        ("(((is_blank)))", "b"),
        ("true", "abc"),
        ("is_blank or true", "abc"),
        ("key<>'a'and(key!='b')", "c"),
        ("not not is_blank", "b"),
        ("key = 'a' or key = 'b' and is_blank", "ab"),
        ("(key = 'a' or key = 'b') and is_blank", "b"),
    ],
)
def test_a_condition_chooses_the_rows_it_names(text: str, keys: str) -> None:
    assert chosen(text) == keys


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clip_scor > 1", "there is no column 'clip_scor', did you mean 'clip_score'?"),
        ("Is_blank", "did you mean 'is_blank'?"),
        ("zzzzzz", "there are big, clip_score"),
        ("clip_score", "column 'clip_score' (float) alone is no condition"),
        ("clip_score > 'high'", "is compared with 'high': give it a number"),
        ("scheduler = 3", "give it 'text' in single quotes"),
        ("is_blank = 1", "give it true or false"),
        ("clip_score > scheduler", "cannot be compared"),
        ("created_at > 'yesterday'", "is no timestamp[us, tz=UTC]"),
        ("tags = 'x'", "knows only 'is null'"),
        ("seed like '1%'", "is no text for 'like'"),
        ("scheduler = null", "write 'is null'"),
        ("scheduler = ", "ends where a column, a number or 'text' should follow"),
        ("", "ends where a column"),
        ("(is_blank", "ends where ')' should follow"),
        ("is_blank)", "at character 9, ')': and, or, or the end should stand here"),
        ("is_blank nsfw", "at character 10, 'nsfw'"),
        ("scheduler = 'x", "the ' at character 13 is never closed"),
        ("clip_score > 0.25 && nsfw", "at character 19, '&& nsfw'"),
        ("clip_score > 0.2.5", "this means nothing here"),
        ("1 = 1", "names no column"),
        ("3", "3 alone is no condition"),
        ("seed in ()", "at character 10, ')'"),
        ("seed in (seed)", "at character 10, 'seed': a number or 'text'"),
        ("seed not 3", "like or in"),
        ("seed is 3", "null should stand here"),
        ("seed = " + "9" * 200, "more than 100 digits"),
        ("(" * 100 + "is_blank" + ")" * 100, "nested deeper than 64"),
        ("not " * 100 + "is_blank", "nested deeper than 64"),
        ("is_blank" + " or is_blank" * 1000, "more than 1,000 conditions"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_where(text, SCHEMA)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_columns_names_all_that_is_read_and_needs_no_schema() -> None:
    text = "a > 1 and (b in (2) or not c is null) and d like 'x' and e and 1 < f and \"g h\" = i"
    assert columns(text) == {"a", "b", "c", "d", "e", "f", "g h", "i"}


def test_a_thousand_conditions_are_taken() -> None:
    assert chosen(" or ".join(f"num_inference_steps = {k}" for k in range(1000))) == "abc"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nsfw or is_blank", ["nsfw", "is_blank"]),
        (" a = 'x or y' OR (b or c) and not d ", ["a = 'x or y'", "(b or c) and not d"]),
        ('"a b" in (1, 2)or e', ['"a b" in (1, 2)', "e"]),
        ("a", ["a"]),
    ],
)
def test_alternatives_are_the_parts_of_the_outermost_or(text: str, parts: list[str]) -> None:
    assert alternatives(text) == parts


NUMBERS = st.integers(-3, 3)
LITERALS = NUMBERS.map(str)
NUMERIC = st.sampled_from(["i", "f"])
SIGNS = st.sampled_from(["=", "!=", "<>", "<", "<=", ">", ">="])
LEAVES = st.one_of(
    st.builds("{} {} {}".format, NUMERIC, SIGNS, LITERALS),
    st.builds("{} {} {}".format, LITERALS, SIGNS, NUMERIC),
    st.builds("i {} f".format, SIGNS),
    st.builds("{} in ({}, {})".format, NUMERIC, LITERALS, LITERALS),
    st.builds("{} not in ({}, {})".format, NUMERIC, LITERALS, LITERALS),
    st.sampled_from(["b", "b = true", "b is null", "i is not null", "f is null", "true"]),
    st.builds("s {} '{}'".format, SIGNS, st.sampled_from(["", "a", "ab", "''"])),
    st.builds("s like '{}'".format, st.text("ab%_", max_size=4)),
    st.builds("s not like '{}'".format, st.text("ab%_", max_size=4)),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
    ),
    max_leaves=6,
)
PROPERTY_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("i", pa.int32()),
        ("f", pa.float32()),
        ("b", pa.bool_()),
        ("s", pa.string()),
    ]
)
PROPERTY_TABLE = pa.Table.from_pylist(
    [
        {"key": f"{n},", "i": i, "f": f, "b": b, "s": s}
        for n, (i, f, b, s) in enumerate(
            (i, f, b, s)
            for i in (None, -2, 0, 3)
            for f in (None, -2.0, 0.5)
            for b in (None, True, False)
            for s in (None, "", "a", "ab", "'")
        )
    ],
    PROPERTY_SCHEMA,
)


@settings(max_examples=150, deadline=None)
@given(CONDITIONS)
def test_a_condition_chooses_what_sql_chooses(text: str) -> None:
    database = duckdb.connect()
    database.register("rows", PROPERTY_TABLE)
    expected = "".join(k for (k,) in database.sql(f"select key from rows where {text}").fetchall())
    assert chosen(text, PROPERTY_TABLE) == expected


WORDS = st.sampled_from(
    [
        *("and", "or", "not", "(", ")", "in", "is", "null", "like", "=", "<", ",", "'a'", "1"),
        *("key", "seed", "is_blank", '"my own"', "true", "'", '"', "&", "\x00", "\n", "é", "1_0"),
        *("-1.5e3", "."),
    ]
)


@settings(max_examples=50, deadline=None)
@given(CONDITIONS)
def test_a_row_is_chosen_exactly_when_one_of_the_alternatives_chooses_it(text: str) -> None:
    parts = alternatives(text)
    either = {key for part in parts for key in chosen(part, PROPERTY_TABLE).split(",")}
    assert either - {""} == set(chosen(text, PROPERTY_TABLE).split(",")) - {""}


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=40)))
def test_any_text_is_a_condition_or_refused_by_name(text: str) -> None:
    refused = None
    try:
        parse_where(text, SCHEMA)
    except InputError as error:
        refused = str(error)
    if refused is None:
        assert set(chosen(text)) <= {"a", "b", "c"}
    else:
        assert "\n" not in refused

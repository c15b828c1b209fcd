"""Templates to rows: what is chosen, in which order, and that nothing is left in a prompt."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import InputError, ManifestError
from sdbatch.manifest.template_files import template_lines
from sdbatch.manifest.templates import CHUNK_ROWS, expand

ROOT = Path(__file__).parents[2]


def prompts(template, **options):
    return expand(template, **options).to_table()["prompt"].to_pylist()


def test_a_grid_holds_every_combination_with_the_leftmost_changing_slowest():
    assert prompts("{a|b} x {1..3}") == ["a x 1", "a x 2", "a x 3", "b x 1", "b x 2", "b x 3"]


def test_chosen_values_become_columns_beside_the_template():
    table = expand(
        "${who={fox|owl}}a {red|blue} ${who} by __art/x__", wildcards={"art/x": ["Bo", "Di"]}
    ).to_table()

    assert table.column_names == ["prompt", "var_who", "slot_2", "slot_art_x", "template"]
    assert table.num_rows == 8
    for row in table.to_pylist():
        assert row["prompt"] == f"a {row['slot_2']} {row['var_who']} by {row['slot_art_x']}"


def test_a_wildcard_named_twice_has_two_columns_and_chooses_twice():
    table = expand("__w__ and __w__", wildcards={"w": ["a", "b"]}).to_table()

    assert table.column_names[1:3] == ["slot_w", "slot_w_2"]
    assert table["prompt"].to_pylist() == ["a and a", "a and b", "b and a", "b and b"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{2$$a|b|c}", ["a, b", "a, c", "b, c"]),
        ("{2$$ and $$a|b|c}", ["a and b", "a and c", "b and c"]),
        ("{1-2$$+$$a|b}", ["a", "b", "a+b"]),
        ("{-1$$a|b}", ["", "a", "b"]),
        ("{2-$$/$$a|b|c}", ["a/b", "a/c", "b/c", "a/b/c"]),
        ("{2$$-$$a|{b|c}}", ["a-b", "a-c"]),
        ("{2$$-$$__w__}", ["x-y", "x-z", "y-z"]),
        ("{1..3}", ["1", "2", "3"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0.5..1.0..0.25}", ["0.50", "0.75", "1.00"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{0.8..1.0}", ["0.8", "0.9", "1.0"]),
        ("{9::a|1::b}", ["a", "b"]),
        ("{a|{b|{c|d}}}", ["a", "b", "c", "d"]),
        ("{a|}x", ["ax", "x"]),
        (r"\{a\|b\} \$ \_\_x \: \\ \(c:1.2\)", [r"{a|b} $ __x : \ \(c:1.2\)"]),
        ("$5 | a_b ::", ["$5 | a_b ::"]),
        ("${x:{a|b}}", ["a", "b"]),
        ("${x=!{a|b}}${x}${x}", ["aa", "bb"]),
        ("${x={a|b}}${y=${x}{1|2}}${y}", ["a1", "a2", "b1", "b2"]),
    ],
)
def test_the_language(template, said):
    assert prompts(template, wildcards={"w": ["x", "y", "z"]}) == said


def test_wildcards_may_hold_templates_weights_and_other_wildcards():
    wildcards = {"outer": ["3::a {b|c}", "__inner__!"], "inner": ["d", "e"]}

    assert prompts("__outer__", wildcards=wildcards) == ["a b", "a c", "d!", "e!"]


def test_a_star_stays_in_its_folder_and_two_do_not():
    wildcards = {"a/x": ["1"], "a/b/y": ["2"], "z": ["3"]}

    assert prompts("__a/*__", wildcards=wildcards) == ["1"]
    assert prompts("__a/**__", wildcards=wildcards) == ["2", "1"]
    assert prompts("__?__", wildcards=wildcards) == ["3"]


@pytest.mark.parametrize(
    ("template", "place", "reason"),
    [
        ("a {b", "line 1, column 3", "never closed"),
        ("ab\ncd }", "line 2, column 4", "closes nothing"),
        ("a {b|{c}", "line 1, column 3", "never closed"),
        ("${x={a|b}", "line 1, column 1", "never closed"),
        ("${x=a|b}", "line 1, column 6", "braces of its own"),
        ("x ${9}", "line 1, column 3", "set a variable"),
        ("a {}", "line 1, column 3", "empty braces"),
        ("{%if%}", "line 1, column 1", "Jinja"),
        ("{x$$a|b}", "line 1, column 3", "needs a number"),
        ("{3-2$$a|b|c}", "line 1, column 2", "must not be above"),
        ("{3$$a|b}", "line 1, column 1", "asks for 3 of 2"),
        ("{0::a|b}", "line 1, column 2", "above 0"),
        ("{1..9..0}", "line 1, column 1", "must not be 0"),
        ("{1..999999}", "line 1, column 1", "at most 100,000"),
        ("a __b c", "line 1, column 3", "begins no wildcard"),
        ("a __colour__", "line 1, column 3", "nearest are color"),
        ("a __empty__", "line 1, column 3", "has no values"),
        ("a __loop__", "wildcard back, line 1, column 3", "loop -> back -> loop"),
        ("a __broken__", "wildcard broken, line 2, column 8", "never closed"),
        ("a ${colr} ${color={r|g}}", "line 1, column 3", "not set here"),
        ("${a=b}${a=c}", "line 1, column 7", "set twice"),
        ("{a${x=b}}", "line 1, column 3", "outside all braces"),
        ("{" * 70 + "a" + "}" * 70, "line 1, column", "deep"),
        ("a \ud800", "line 1, column 3", "not UTF-8"),
    ],
)
def test_what_cannot_be_expanded_is_refused_with_its_place(template, place, reason):
    wildcards = {
        "color": ["a"],
        "empty": [],
        "loop": ["__back__"],
        "back": ["a __loop__"],
        "broken": ["fine", "  3::a {b"],
    }
    with pytest.raises(ManifestError) as refused:
        expand(template, wildcards=wildcards)

    assert place in str(refused.value)
    assert reason in str(refused.value)


def test_an_explosion_is_refused_before_a_row_is_made():
    with pytest.raises(ManifestError, match=r"1,000,000,000 rows, over the limit of 1,000,000"):
        expand("{1..1000}{1..1000}{1..1000}")
    with pytest.raises(ManifestError, match=r"about 10\^40 rows"):
        expand("{1..10000}" * 10)
    with pytest.raises(ManifestError, match="--limit 6, or"):
        expand("{a|b}{1..3}", limit=5)
    assert len(prompts("{a|b}{1..3}", limit=6)) == 6


def test_the_same_seed_draws_the_same_rows_and_another_does_not():
    template = "{1..99} {2$$a|b|c|d} {x|{y|z}}"
    first = expand(template, mode="random", rows=200, seed=4).to_table()

    assert first.equals(expand(template, mode="random", rows=200, seed=4).to_table())
    assert not first.equals(expand(template, mode="random", rows=200, seed=5).to_table())


def test_weights_are_shares_of_the_rows():
    drawn = Counter(prompts("{3::a|1::b}", mode="random", rows=8000, seed=1))
    pairs = Counter(prompts("{2$$98::a|1::b|1::c}", mode="random", rows=4000, seed=1))

    assert 0.72 < drawn["a"] / 8000 < 0.78
    assert pairs["b, c"] < 20


@given(st.integers(0, 2**32), st.integers(1, 300))
def test_every_random_row_is_a_row_of_the_grid(seed, rows):
    template = "${v={p|q{1|2}}}{a|{b|c} ${v}} {1-2$$ & $$x|{y|z}|w} ${v}"
    grid = {tuple(row.values()) for row in expand(template).to_table().to_pylist()}
    drawn = expand(template, mode="random", rows=rows, seed=seed).to_table().to_pylist()

    assert len(drawn) == rows
    assert {tuple(row.values()) for row in drawn} <= grid


@given(st.text(st.sampled_from("{}|$_\\:=a1.-* x"), max_size=40))
def test_any_text_expands_or_is_refused(text):
    try:
        made = expand(text, limit=1000, wildcards={"a": ["1", "2"]})
    except InputError:
        return
    table = made.to_table()

    assert table.num_rows == made.num_rows
    drawn = set(prompts(text, mode="random", rows=5, wildcards={"a": ["1", "2"]}))
    assert drawn <= set(table["prompt"].to_pylist())


def test_tables_stay_small_and_their_cuts_change_nothing():
    made = expand("{1..300} {1..200}")
    tables = list(made)

    assert max(table.num_rows for table in tables) <= CHUNK_ROWS
    assert pa.concat_tables(tables)["prompt"].to_pylist() == [
        f"{a} {b}" for a in range(1, 301) for b in range(1, 201)
    ]


def test_several_templates_share_columns_and_rows():
    grid = expand(["{a|b}", "plain", "${x=1}${x}"]).to_table()
    drawn = expand(["{a|b}", "{c|d}"], mode="random", rows=5).to_table()

    assert grid["prompt"].to_pylist() == ["a", "b", "plain", "1"]
    assert grid["slot_1"].to_pylist() == ["a", "b", None, None]
    assert grid["var_x"].to_pylist() == [None, None, None, "1"]
    assert drawn["template"].to_pylist() == ["{a|b}"] * 3 + ["{c|d}"] * 2


def test_set_columns_are_in_every_row_and_may_take_no_name_of_a_template():
    table = expand("{a|b}", columns={"seed": 7, "guidance_scale": 2.5, "set": "x"}).to_table()

    assert table["seed"].to_pylist() == [7, 7]
    assert table.schema.field("guidance_scale").type == pa.float64()
    with pytest.raises(InputError, match="slot_1"):
        expand("{a|b}", columns={"slot_1": "x"})


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "random"},
        {"rows": 3},
        {"mode": "random", "rows": 0},
        {"seed": -1},
        {"limit": 0},
        {"mode": "all"},
        {"mode": "random", "rows": 9, "limit": 8},
        {"columns": {"n": 2**63}},
    ],
)
def test_impossible_arguments_are_refused(options):
    with pytest.raises(InputError):
        expand("a", **options)


def test_a_file_holds_a_template_a_line_and_errors_name_its_line(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbf# comment\r\n{a|b}\r\n\r\nplain\r\n")
    assert prompts(template_lines(str(path))) == ["a", "b", "plain"]

    path.write_text("fine\n\nnot {fine\n")
    with pytest.raises(ManifestError, match=r"t\.txt, line 3, column 5: '\{' is never closed"):
        expand(template_lines(str(path)))
    path.write_bytes(b"fine\n\xff\xfe\n")
    with pytest.raises(ManifestError, match="not UTF-8"):
        expand(template_lines(str(path)))
    path.write_text("\n# nothing\n")
    with pytest.raises(InputError, match="no template"):
        expand(template_lines(str(path)))
    with pytest.raises(ManifestError, match="no such file"):
        template_lines(str(tmp_path / "missing.txt"))


BUILD = """
import sys
from sdbatch.cli.main import main
main(["manifest", "build", "{red|green|blue} {2$$a|b|c|d} __w__ ${x={1..50}}${x}", sys.argv[1],
      "--mode", "random", "--rows", "3000", "--seed", "9", "--wildcards", sys.argv[2]])
"""


def test_the_bytes_of_a_seed_are_the_same_on_any_hash_seed(tmp_path):
    folder = tmp_path / "wild"
    folder.mkdir()
    (folder / "w.txt").write_text("one\n{two|three}\n")
    hashes = set()
    for number in ("0", "77"):
        out = tmp_path / f"{number}.parquet"
        env = {**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, "-c", BUILD, str(out), str(folder)], env=env, check=True, cwd=ROOT
        )
        hashes.add(hashlib.sha256(out.read_bytes()).hexdigest())

    assert len(hashes) == 1

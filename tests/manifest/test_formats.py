"""Text of any kind becomes the rows it holds, or one line that says why not."""

import gzip
import json
import shutil

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch.errors import InputError
from sdbatch.manifest.checks import check_rows
from sdbatch.manifest.formats import kind_of
from sdbatch.manifest.opening import open_any
from sdbatch.manifest.reader import iter_tables

ROWS = [
    {"id": "001", "prompt": 'a "red" fox, twice', "seed": 7, "tags": "x"},
    {"id": "002", "prompt": "二\nlines", "seed": None, "tags": ""},
]
CSV = 'id,prompt,seed,tags\n001,"a ""red"" fox, twice",7,x\r\n002,"二\nlines",,\n'
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
TSV = CSV.replace("fox, twice", "fox; twice").replace(",", "\t").replace(";", ",")


@pytest.fixture
def opened(tmp_path):
    def _opened(name, content, *, url=""):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        folder = tmp_path / "frozen"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return open_any(url or str(path), lambda: folder).manifest

    return _opened


def rows_of(manifest):
    return pa.concat_tables(iter_tables(manifest.ref)).to_pylist()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.CSV", "\ufeff" + CSV),
        ("a.tsv", TSV),
        ("a.jsonl", JSONL),
        ("a.ndjson", "\n" + JSONL.rstrip()),
        ("a.json", json.dumps(ROWS, indent=1)),
        ("a.csv.gz", gzip.compress(CSV.encode())),
        ("a.jsonl.zst", pa.compress(JSONL.encode(), "zstd", asbytes=True)),
    ],
)
def test_equal_rows_come_out_of_every_format(opened, name, content):
    assert rows_of(opened(name, content)) == ROWS


def test_a_text_is_one_prompt_a_line(opened):
    manifest = opened("a.txt", "\ufeffa fox\r\n\n \n001\n\u2028 b")

    assert [row["prompt"] for row in rows_of(manifest)] == ["a fox", "001", "\u2028 b"]


def test_partiprompts_come_out_unchanged(tmp_path):
    lines = ["Prompt\tNote", '"G I G" painted\t', 'a "b" c\tx"y', "\u201ctwo\u201d\t'"]
    path = tmp_path / "p.tsv"
    path.write_text("\n".join(lines))

    rows = rows_of(open_any(str(path), lambda: tmp_path).manifest)

    assert [f"{row['prompt']}\t{row['Note']}" for row in rows] == lines[1:]


def test_types_are_those_of_the_whole_file(opened):
    ends = "p,8,1.5,x,,9007199254740993\n"
    head = "prompt,whole,part,late,none,seed\n" + "p,7,1,1,,1\n" * 40_000

    manifest = opened("a.csv", head + ends)

    kinds = {field.name: str(field.type) for field in manifest.schema}
    assert kinds == {
        "prompt": "string",
        "whole": "int64",
        "part": "double",
        "late": "string",
        "none": "string",
        "seed": "int64",
    }
    assert rows_of(manifest)[-1]["seed"] == 9007199254740993


@pytest.mark.parametrize("values", [["001", "2"], ["1e999x", "1"], ["-", "1"], ["+1", "007"]])
def test_codes_stay_texts(opened, values):
    manifest = opened("a.csv", "prompt,code\n" + "".join(f"a,{one}\n" for one in values))

    assert [row["code"] for row in rows_of(manifest)] == values


@pytest.mark.parametrize("keys", [["9007199254740993", "1.5"], ["12345678901234567890123", "2"]])
def test_long_keys_beside_other_numbers_stay_texts_to_the_last_digit(opened, keys):
    manifest = opened("a.csv", "prompt,code\n" + "".join(f"a,{key}\n" for key in keys))

    assert [row["code"] for row in rows_of(manifest)] == keys


@pytest.mark.parametrize("listed", [False, True])
def test_whole_numbers_that_no_float_holds_stay_exact_beside_parts_in_a_later_batch(
    opened, listed, monkeypatch
):
    monkeypatch.setattr("sdbatch.manifest.text_rows.BATCH_ROWS", 1)
    text = '{"prompt": "a", "code": [%s]}\n' if listed else '{"prompt": "a", "code": %s}\n'
    manifest = opened("a.jsonl", text % "9007199254740993" + text % "1.5")

    keys = [row["code"] for row in rows_of(manifest)]
    assert keys == (["[9007199254740993]", "[1.5]"] if listed else ["9007199254740993", "1.5"])


def test_a_huge_whole_guidance_scale_is_read_as_the_number_it_is(opened):
    manifest = opened("a.jsonl", '{"prompt": "a", "guidance_scale": 9007199254740993}\n')

    assert rows_of(manifest)[0]["guidance_scale"] == pytest.approx(9007199254740993)


def test_lists_and_objects_are_faults_of_their_rows_and_never_drawn_as_prompts(opened, limits):
    lines = ['{"prompt": ["x", "y"]}', '{"prompt": "z"}', '{"negative_prompt": {"a": 1}}']
    lines[2] = '{"prompt": "z", "negative_prompt": {"a": 1}}'
    report = check_rows(opened("a.jsonl", "\n".join(lines)), limits=limits)

    assert [(one.row, one.column) for one in report.problems] == [
        (0, "prompt"),
        (2, "negative_prompt"),
    ]
    assert "must be a text, not a list or object" in str(report.problems[0])


def test_json_of_mixed_values_becomes_text_and_lists_stay_lists(opened):
    rows = [
        {"prompt": 5, "id": 1, "m": 1, "l": [], "o": {"a": 1}, "f": 1},
        {"prompt": "x", "id": "b", "m": "y", "l": ["t"], "o": {"b": [2]}, "f": 2.5, "new": True},
    ]
    got = rows_of(opened("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows)))

    assert got == [
        {"prompt": "5", "id": "1", "m": "1", "l": [], "o": '{"a": 1}', "f": 1.0, "new": None},
        {"prompt": "x", "id": "b", "m": "y", "l": ["t"], "o": '{"b": [2]}', "f": 2.5, "new": True},
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"prompt\na\ncaf\xe9\n", "line 3, byte 4 is no UTF-8 (0xe9), save it as UTF-8"),
        ("a.csv", "prompt\na\n".encode("utf-16"), "line 1, byte 1 is UTF-16"),
        ("a.txt", "ab\n".encode("utf-16-le"), "line 1, byte 2 holds a NUL byte"),
        ("a.txt", b"x\n\xed\xa0\x80", "line 2, byte 1 holds half of a surrogate pair"),
        ("a.csv", "prompt,b\nx,1\ny\n", "line 3 has 1 values, the header has 2"),
        ("a.csv", 'prompt\n"a\nb\n', "the file ends inside quotation marks"),
        ("a.csv", 'prompt\n"a" b\n', "line 2: text follows a closing quotation mark"),
        ("a.csv", "prompt,\nx,1\n", "column 2 has no name"),
        ("a.csv", "prompt,prompt\nx,1\n", "stands twice"),
        ("a.csv", "prompt\n", "holds no rows"),
        ("a.txt", "\n", "holds no rows"),
        ("a.csv", b"", "holds no rows"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": \n', "line 2"),
        ("a.jsonl", '{"prompt": "a"}\n[1]\n', "line 2: an array is no row"),
        ("a.jsonl", '{"prompt": "a"},\n', "line 1"),
        ("a.jsonl", '{"prompt": "\\ud800"}\n', "row 0, column 'prompt': holds half of a surrogate"),
        ("a.jsonl", '{"a":' * 100_000, "line 1"),
        ("a.json", '{"prompt": "a"}', "holds an object, must hold a JSON array"),
        ("a.csv.gz", b"\x1f\x8b\x08broken", "damaged .gz file"),
        ("a.csv.gz", gzip.compress(CSV.encode())[:-12], "damaged .gz file"),
        ("a.csv.zst", b"(\xb5/\xfdxxxxxxx", "damaged .zst file"),
        ("a.dat", "prompt\na\n", "not a Parquet file; other kinds are known by their names"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_place(opened, name, content, words):
    with pytest.raises(InputError) as caught:
        opened(name, content)

    assert words in str(caught.value)
    assert f"in/{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_one_kind_in_name_order(opened, tmp_path):
    opened("b.csv", "prompt\nb\n")
    opened("README.txt", "not a prompt")
    manifest = opened("a.csv", "prompt\na\n", url=str(tmp_path / "in"))
    assert [row["prompt"] for row in rows_of(manifest)] == ["a", "b"]

    with pytest.raises(InputError, match=r"several kinds, such as a.csv and c.jsonl"):
        opened("c.jsonl", '{"prompt": "c"}', url=str(tmp_path / "in"))
    only = opened("b.csv", "prompt\nb\n", url=str(tmp_path / "in/*.csv"))
    assert len(rows_of(only)) == 2
    with pytest.raises(InputError, match=r"column 'prompt': missing in .*d.csv but not in .*a.csv"):
        opened("d.csv", "text\nb\n", url=str(tmp_path / "in/*.csv"))


def test_faults_of_checks_name_the_file_and_line_people_can_open(opened, tmp_path, limits):
    opened("a.csv", "prompt,seed\na,1\n")
    content = 'prompt,seed\n"two\nlines",1\nb,-5\n'
    manifest = opened("b.csv", content, url=str(tmp_path / "in"))

    (problem,) = check_rows(manifest, limits=limits).problems

    assert str(problem).startswith(f"{tmp_path}/in/b.csv, line 4, row 2, column 'seed': -5: must")


def test_equal_bytes_are_one_manifest_and_others_another(opened):
    one = opened("a.csv", CSV).ref.identity

    assert opened("a.csv", CSV).ref.identity == one
    assert opened("a.csv", CSV + "3,c,,\n").ref.identity != one


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.csv.gz", ("csv", "gz")), ("d/x.JSONL", ("jsonl", "")), (".csv", ("", "")),
     ("x.gz", ("", "gz")), ("x", ("", ""))],
)  # fmt: skip
def test_a_name_tells_the_kind(name, kind):
    assert kind_of(name) == kind


PIECES = st.lists(
    st.sampled_from(
        [b'"', b",", b"\n", b"\r", b"\t", b"{", b"}", b"[", b"]", b":", b"prompt", b"seed", b"a",
         b"1", b"-", b"1e9", b"NaN", b"null", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf",
         b"\\ud800", b"\xc3\xa9", b"size", b'{"prompt":"a"}\n', b"prompt,seed\n", b"8x8"]
    ),
    max_size=30,
).map(b"".join)  # fmt: skip


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt", "a.csv.gz"])
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)
@given(content=st.one_of(PIECES, st.binary(max_size=60)), packed=st.booleans())
def test_any_bytes_are_a_table_or_one_clear_fault(opened, limits, name, content, packed):
    if name.endswith(".gz") and packed:
        content = gzip.compress(content)
    try:
        manifest = opened(name, content)
        found = check_rows(manifest, limits=limits)
        table = pa.concat_tables(iter_tables(manifest.ref))
    except InputError as error:
        fault = str(error)
    else:
        fault = ""
    if fault:
        assert name in fault
        return
    table.validate(full=True)
    assert table.num_rows == manifest.ref.num_rows == found.num_rows > 0


def test_rows_without_a_key_keep_their_places_beside_others(opened, monkeypatch):
    monkeypatch.setattr("sdbatch.manifest.text_rows.BATCH_ROWS", 2)
    prompts = [None, None, None, "a", "b", None]
    text = "".join(json.dumps({"prompt": one} if one else {}) + "\n" for one in prompts)
    assert [row["prompt"] for row in rows_of(opened("a.jsonl", text))] == prompts


def test_rows_without_any_key_are_no_manifest(opened):
    with pytest.raises(InputError, match=r"a\.jsonl: holds empty rows only"):
        opened("a.jsonl", "{}\n{}\n")


def test_a_prompt_of_a_megabyte_is_read(opened):
    prompt = "word " * 210_000
    for name, content in (("a.csv", f"prompt\n{prompt}\n"), ("a.txt", prompt),
                          ("a.jsonl", json.dumps({"prompt": prompt}))):  # fmt: skip
        assert rows_of(opened(name, content))[0]["prompt"].strip() == prompt.strip()

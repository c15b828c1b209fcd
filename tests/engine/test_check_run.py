"""Rows that cannot be drawn: they end everything before it begins, or fail alone."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.engine.check_run import check_manifest
from sdbatch.errors import InputError, ManifestRowsError
from tests.engine.runs import hashes, run_until

INLINE = {"engine": "inline", "model": "fake", "size": "64x64", "shard_size": 16}
SIZES = [100 if row % 10 == 3 else 64 for row in range(100)]
COUNTS = [0 if row % 25 == 7 else 2 for row in range(100)]


@pytest.fixture
def mixed(manifest):
    """A hundred rows: ten of a width that no model draws, four that ask for no picture."""
    return manifest(100, width=SIZES, num_images_per_prompt=COUNTS)


def test_bad_rows_are_refused_unless_they_may_fail(mixed, tmp_path):
    with pytest.raises(ManifestRowsError) as caught:
        api.render(mixed, tmp_path / "out", **INLINE)

    assert caught.value.total == 14
    assert not (tmp_path / "out").exists()


def test_bad_rows_become_failed_rows_and_counts_add_up(mixed, tmp_path):
    summary = api.render(mixed, tmp_path / "out", bad_rows="fail", **INLINE)
    dataset = api.open_dataset(tmp_path / "out")
    errors = dataset.errors().to_pylist()

    # A bad count is that of a row that does not say: one picture.
    assert summary.exit_code == 4
    assert (summary.success, summary.failed) == (172, 24)
    assert summary.images == 196
    assert {row["error_type"] for row in errors} == {"ManifestError"}
    assert {row["row_index"] for row in errors} == {
        row for row in range(100) if row % 10 == 3 or row % 25 == 7
    }
    said = next(row["error_message"] for row in errors if row["row_index"] == 3)
    assert f"{mixed}, row 3, column 'width': 100: must be a multiple of 8" in said
    assert dataset.verify(3).exit_code == 0


def test_failures_by_bad_rows_may_be_allowed(mixed, tmp_path):
    options = INLINE | {"bad_rows": "fail", "allow_failed": "20%"}

    assert api.render(mixed, tmp_path / "out", **options).exit_code == 0


def test_good_rows_ask_for_the_same_beside_bad_ones_and_without_them(mixed, tmp_path):
    good = [row for row in range(100) if row % 10 != 3 and row % 25 != 7]
    table = pq.read_table(mixed)
    ids = table.append_column("id", pa.array([f"row-{row}" for row in range(100)]))
    api.render(ids, tmp_path / "all", bad_rows="fail", **INLINE)
    api.render(ids.take(good), tmp_path / "good", **INLINE)

    found = [
        api.open_dataset(tmp_path / name).to_table(["row_id", "image_index", "seed", "row_hash"])
        for name in ("all", "good")
    ]
    beside, alone = ({tuple(row.values()) for row in table.to_pylist()} for table in found)
    assert beside == alone
    assert len(alone) == 172


def test_an_interrupted_run_with_bad_rows_goes_on_to_the_same_dataset(mixed, tmp_path, monkeypatch):
    options = INLINE | {"bad_rows": "fail", "model": "fake:ms=25", "shard_size": 60}
    whole = api.render(mixed, tmp_path / "whole", **options)
    first = run_until(20, monkeypatch, mixed, tmp_path / "out", **options)
    second = api.render(mixed, tmp_path / "out", **options)

    assert first.exit_code == 75
    assert second.exit_code == 4
    assert whole.plan_id == first.plan_id == second.plan_id
    assert (second.success + second.failed, second.failed) == (196, 24)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "whole")


def test_without_bad_rows_it_makes_no_difference_to_the_plan(manifest):
    path = manifest(20)
    plans = [
        api.plan(path, **INLINE, dtype="float32", batch_size=4, bad_rows=ways)
        for ways in ("fail", "refuse")
    ]

    assert plans[0].plan_id == plans[1].plan_id is not None


def test_a_plan_says_how_many_rows_will_fail_and_why(mixed):
    notes = api.plan(mixed, bad_rows="fail", **INLINE).notes

    assert any(
        note.startswith("14 rows of 100 cannot be drawn and will fail (--bad-rows fail)")
        and "row 3, column 'width': 100" in note
        for note in notes
    )


def test_texts_that_are_no_utf8_fail_their_rows_alone(tmp_path):
    texts = pa.array([b"a", b"\xff\xfe", b"c"]).cast(pa.binary()).view(pa.string())
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": texts, "mood": ["x", "y", "z"]}), path)
    summary = api.render(str(path), tmp_path / "out", bad_rows="fail", **INLINE)

    assert (summary.success, summary.failed) == (2, 1)
    assert api.open_dataset(tmp_path / "out").errors()["mood"].to_pylist() == ["y"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"bad_rows": "skip"}, "use refuse or fail"),
     ({"bad_rows": "fail", "check": False}, "leave out --no-check")],
)  # fmt: skip
def test_what_bad_rows_cannot_mean_is_refused(options, words, manifest):
    with pytest.raises(InputError, match=words):
        api.plan(manifest(3), **INLINE, **options)


def test_a_check_finds_what_a_run_would_refuse(mixed, tmp_path):
    found = check_manifest(mixed, model="fake", report=tmp_path / "errors.parquet")

    assert (found.rows, found.total) == (100, 14)
    assert found.to_dict()["problems"][0] == {
        "row": 3,
        "column": "width",
        "value": "100",
        "message": "must be a multiple of 8 from 8 to 16384, for example 96 or 104",
    }
    assert pq.read_metadata(tmp_path / "errors.parquet").num_rows == 14


TEXT = "prompt,steps,size\na,2,64x64\nb,abc,64x64\nc,1e400,64x64\nd,2,10x\n"


def test_bad_numbers_of_texts_fail_their_rows_with_what_stands_there(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(TEXT)
    report = tmp_path / "errors.parquet"
    summary = api.render(path, tmp_path / "out", bad_rows="fail", problems=str(report), **INLINE)
    said = {
        row["row_index"]: row["error_message"]
        for row in api.open_dataset(tmp_path / "out").errors().to_pylist()
    }

    assert (summary.success, summary.failed) == (1, 3)
    assert "column 'steps': 'abc': must be a whole number" in said[1]
    assert "column 'steps': '1e400': must be a whole number" in said[2]
    assert "column 'size': '10x': is no size, write it like 512x768" in said[3]
    assert api.open_dataset(tmp_path / "out").verify(3).exit_code == 0
    assert api.render(path, tmp_path / "out", bad_rows="fail", **INLINE).failed == 3
    assert pq.read_table(report)["value"].to_pylist() == ["'10x'", "'abc'", "'1e400'"]


@pytest.mark.parametrize("door", [api.plan, api.render])
def test_every_problem_is_written_down_before_a_run_is_refused(door, mixed, tmp_path):
    report = tmp_path / "errors.parquet"
    with pytest.raises(ManifestRowsError):
        door(mixed, tmp_path / "out", problems=str(report), **INLINE)

    assert pq.read_metadata(report).num_rows == 14
    with pytest.raises(InputError, match=r"--report: .* leave out --no-check"):
        door(mixed, tmp_path / "out", problems=str(report), check=False, **INLINE)


def test_a_check_holds_rows_to_the_defaults_of_the_run(manifest, tmp_path):
    def total(path, **how):
        return check_manifest(path, model="fake", **how).total

    last = manifest(2, seed=[1, 2**63 - 1])
    assert total(last) == 0
    assert total(last, num_images_per_prompt=2) == 1
    assert total(last, num_images_per_prompt=2, limit=1) == 0
    options = manifest(1, name="options.parquet", scheduler_config=['{"use_karras_sigmas": true}'])
    assert total(options, scheduler="DPM++ 2M") == 0
    assert total(options, scheduler="ddim") == 1
    path = tmp_path / "prompts.txt"
    path.write_text("a [fox:cat:0.5]\n")
    assert total(str(path)) == 0
    assert total(str(path), prompt_syntax="a1111") == 1
    with pytest.raises(InputError, match="--scheduler nosuch: no such scheduler"):
        total(last, scheduler="nosuch")


def test_a_check_looks_for_the_pictures_that_rows_point_to(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    rows = [{"prompt": "a", "image": str(tmp_path / name)} for name in ("text.png", "gone.png")]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def reasons(**how):
        found = check_manifest(str(path), model="fake", **how).problems
        return [(one.row, one.reason) for one in found if "does not draw" not in one.reason]

    gone = (1, "no such file, correct the path or remove the row")
    assert reasons() == [gone]
    assert reasons(check_files=True) == [(0, "is no PNG, JPEG or WebP picture"), gone]


def test_rows_that_are_new_may_be_bad_too(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(TEXT)
    api.render(path, tmp_path / "out", bad_rows="fail", **INLINE)
    path.write_text(TEXT + "e,2,11x\nf,2,64x64\n")
    again = {"only_new": str(tmp_path / "out"), **INLINE}
    summary = api.render(path, tmp_path / "new", bad_rows="fail", **again)

    assert (summary.success, summary.failed) == (1, 4)

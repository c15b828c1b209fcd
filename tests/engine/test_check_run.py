"""Rows that cannot be drawn: they end everything before it begins, or fail alone."""

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

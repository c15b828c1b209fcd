"""A retry draws exactly what failed; all else keeps its bytes."""

import numpy as np
import pytest

from sdbatch import api
from sdbatch.engine.job_folder import read
from sdbatch.errors import DamagedError, InputError, JobError, ModelError
from sdbatch.plan.rows import hash_of
from sdbatch.plan.seeds import reseeded
from sdbatch.render.fake import FakeRenderer, fake_pixels
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store
from tests.engine.reworks import (
    ENGINE,
    FAULTS,
    failures,
    files,
    is_exact,
    of_shard,
    pixels,
    spoil,
    spoilt,
    table,
)
from tests.engine.runs import INLINE, asked_for, run_until


@pytest.fixture
def out(manifest, tmp_path, monkeypatch):
    return spoilt(manifest, tmp_path, monkeypatch)


def test_a_retry_makes_the_failed_pictures_and_leaves_every_other_byte(out, report):
    before, rows = files(out), table(out)

    summary = api.retry(out, report=report, **ENGINE)

    now, after = files(out), table(out)
    assert (summary.exit_code, summary.success, summary.failed) == (0, 40, 0)
    assert (summary.retried, summary.now_success, summary.still_failed) == (4, 4, 0)
    assert of_shard(now, 3) == of_shard(before, 3)
    assert not set(of_shard(now, 0)) & set(before)
    assert {index: row for index, row in after.items() if index not in FAULTS} == rows
    assert all(np.array_equal(pixels(after[i]), fake_pixels(asked_for(after[i]))) for i in FAULTS)
    assert is_exact(out)
    assert "retried 4 pictures: 4 now success, 0 still failed" in report.text
    assert not list((out / "errors").iterdir())


def test_a_retried_row_is_the_one_that_an_undisturbed_run_draws(out, manifest, tmp_path):
    api.retry(out, **ENGINE)
    path = manifest(40, label=[f"label {i}" for i in range(40)])
    api.render(path, tmp_path / "whole", model="fake", shard_size=10, **INLINE)

    changing = {"created_at", "latency_ms", "attempts"}
    whole = table(tmp_path / "whole")
    for index, row in table(out).items():
        same = {name: row[name] for name in row.keys() - changing}
        assert same == {name: whole[index][name] for name in same}


def test_only_rows_of_the_named_error_type_are_drawn(out, monkeypatch):
    drawn, real = [], FakeRenderer._draw
    monkeypatch.setattr(
        FakeRenderer,
        "_draw",
        lambda self, row, n: drawn.append(row.row_index) or real(self, row, n),
    )
    before = files(out)

    summary = api.retry(out, error_type="OneError", **ENGINE)

    assert sorted(drawn) == [3, 17]
    assert failures(out) == {4: "OtherError", 25: "OtherError"}
    assert (summary.retried, summary.now_success, summary.exit_code) == (2, 2, 4)
    assert of_shard(files(out), 2) == of_shard(before, 2)
    assert is_exact(out)


def test_failures_that_stay_keep_every_column(out):
    kept = [row for row in api.open_dataset(out).errors().to_pylist() if row["row_index"] == 4]

    api.retry(out, error_type=["OneError"], **ENGINE)

    now = [row for row in api.open_dataset(out).errors().to_pylist() if row["row_index"] == 4]
    assert now == kept
    assert kept[0]["traceback"] == "line 1\nline 2"


def test_attempts_count_what_was_tried_in_all(out, monkeypatch):
    spoil(monkeypatch, {3: "OneError"})
    api.retry(out, **ENGINE)
    spoil(monkeypatch, {})
    api.retry(out, **ENGINE)

    rows = table(out)
    assert {index: rows[index]["attempts"] for index in (3, 4, 5, 17, 39)} == {
        3: 3, 4: 2, 5: 1, 17: 2, 39: 1,
    }  # fmt: skip
    record = RunFolder(open_store(out)).record(0)
    assert (record.revision, record.result.attempts) == (2, 3)


def test_what_fails_again_is_counted_and_the_exit_code_says_so(out, monkeypatch, report):
    spoil(monkeypatch, {4: "NewError", 25: "OtherError"})
    summary = api.retry(out, report=report, **ENGINE)

    assert (summary.exit_code, summary.failed) == (4, 2)
    assert (summary.retried, summary.now_success, summary.still_failed) == (4, 2, 2)
    assert failures(out) == {4: "NewError", 25: "OtherError"}
    assert api.retry(out, allow_failed=2, **ENGINE).exit_code == 0


def test_other_seeds_are_derived_stored_and_replayed(out):
    plain = {row["row_index"]: row["seed"] for row in api.open_dataset(out).errors().to_pylist()}

    summary = api.retry(out, error_type="OneError", reseed=7, **ENGINE)

    rows = table(out)
    revision = read(open_store(out), "main").spec.render.model_revision
    assert summary.now_success == 2
    for index in (3, 17):
        asked = asked_for(rows[index])
        assert rows[index]["seed"] == reseeded(plain[index], 7) != plain[index]
        assert rows[index]["row_hash"] == hash_of(asked, revision)
        assert np.array_equal(pixels(rows[index]), fake_pixels(asked))
    assert api.open_dataset(out).replay([3, 17, 5]).exit_code == 0
    assert is_exact(out)


def test_a_retry_after_other_seeds_goes_back_to_those_of_the_plan(out, monkeypatch):
    planned = {row["row_index"]: row["seed"] for row in api.open_dataset(out).errors().to_pylist()}
    spoil(monkeypatch, {3: "OneError"})
    api.retry(out, reseed=1, **ENGINE)
    spoil(monkeypatch, {})
    api.retry(out, **ENGINE)

    rows = table(out)
    assert rows[3]["seed"] == planned[3]
    assert rows[17]["seed"] == reseeded(planned[17], 1)


def test_nothing_to_retry_is_said_and_changes_nothing(out, report):
    api.retry(out, **ENGINE)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}

    summary = api.retry(out, report=report, **ENGINE)
    filtered = api.retry(out, only="filtered", reseed=1, report=report, **ENGINE)

    assert summary.exit_code == filtered.exit_code == 0
    assert "nothing to retry: no picture failed" in report.text
    assert "nothing to retry: no picture was filtered" in report.text
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == before
    assert RunFolder(open_store(out)).success_number() == 1


def test_an_unknown_error_type_is_refused_with_those_that_exist(out):
    with pytest.raises(InputError, match=r"NoError: .* there are: OneError 2, OtherError 2"):
        api.retry(out, error_type="NoError", **ENGINE)
    assert RunFolder(open_store(out)).open_rework() is None


def test_a_rotted_record_is_named_plainly_with_the_command_that_mends_it(out):
    record = out / "__sdbatch" / "main" / "commits" / "000" / "00002.json"
    record.write_bytes(record.read_bytes().replace(b"finished_at", b"finisied_at"))

    with pytest.raises(DamagedError) as caught:
        api.retry(out, **ENGINE)
    reason = f"it is no commit record, mend it with: sdbatch repair {open_store(out).url}"
    assert str(caught.value).endswith(f"00002.json: damaged, {reason}")
    api.repair(out, **ENGINE)
    assert api.retry(out, **ENGINE).exit_code == 0


def state_files(out):
    return {path: path.stat().st_mtime_ns for path in (out / "__sdbatch").rglob("*")}


def test_a_retry_that_is_refused_or_has_nothing_to_do_writes_nothing(out, report):
    before = state_files(out)
    with pytest.raises(InputError, match="NoError"):
        api.retry(out, error_type="NoError", **ENGINE)
    summary = api.retry(out, only="filtered", reseed=1, report=report, **ENGINE)

    assert state_files(out) == before
    assert "nothing to retry: no picture was filtered" in report.text
    assert summary.exit_code == 4  # the dataset's own, as `render` gives it


def test_the_progress_of_a_retry_counts_the_pictures_that_are_drawn(out, report):
    shown = []
    report.progress = shown.append
    api.retry(out, error_type="OneError", report=report, **ENGINE)

    assert {progress.images for progress in shown} == {2}
    assert {progress.done + progress.finished for progress in shown} <= {0, 1, 2}
    assert shown[-1].done == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"only": "filtered"}, "add --reseed"),
        ({"only": "filtered", "reseed": 1, "error_type": "X"}, "said of failed pictures"),
        ({"only": "all"}, "one of failed, filtered"),
        ({"reseed": -1}, "whole number from 0"),
        ({"settings": ["defaults.num_inference_steps=9"]}, "the plan of .* stands"),
        ({"num_inference_steps": 9}, "unknown option"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(out, options, words):
    with pytest.raises((InputError, JobError), match=words):
        api.retry(out, **options, **ENGINE)
    assert RunFolder(open_store(out)).open_rework() is None


def test_an_unfinished_run_is_refused_with_its_own_command(manifest, tmp_path, monkeypatch):
    path, out = manifest(40), tmp_path / "out"
    run_until(10, monkeypatch, path, out, model="fake:ms=25", shard_size=10, **INLINE)

    with pytest.raises(
        InputError, match=r"of 4 shards .* let the run be finished first: sdbatch render"
    ):
        api.retry(out, **ENGINE)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        api.retry(tmp_path, **ENGINE)


def test_a_manifest_that_moved_is_named_before_anything_is_begun(out, tmp_path):
    (tmp_path / "rows.parquet").rename(tmp_path / "elsewhere.parquet")

    with pytest.raises(InputError, match=r"rows\.parquet: no such file .* put it back"):
        api.retry(out, **ENGINE)
    assert RunFolder(open_store(out)).open_rework() is None


def test_a_model_of_other_weights_is_refused(out):
    with pytest.raises(ModelError, match="the plan was made with"):
        api.retry(out, model="fake:fail=0.5", **ENGINE)
    assert api.retry(out, model="fake:ms=1", **ENGINE).success == 40


def test_a_touched_file_that_is_gone_is_for_a_repair(out):
    next((out / "data").glob("train-00001-*")).unlink()

    with pytest.raises(DamagedError, match="run first: sdbatch repair"):
        api.retry(out, **ENGINE)
    assert RunFolder(open_store(out)).open_rework() is None


def test_a_record_that_is_gone_is_for_a_repair(out):
    (out / "__sdbatch" / "main" / "commits" / "000" / "00002.json").unlink()

    with pytest.raises(
        DamagedError, match="3 of 4 shards have a record: run first: sdbatch repair"
    ):
        api.retry(out, **ENGINE)


def test_a_touched_file_that_rotted_is_drawn_again_rather_than_copied(out, report):
    path = next((out / "data").glob("train-00001-*"))
    rows = table(out)
    data = path.read_bytes()
    picture = data.index(rows[15]["image"]["bytes"]) + 200
    path.write_bytes(data[:picture] + bytes([data[picture] ^ 1]) + data[picture + 1 :])

    summary = api.retry(out, **ENGINE)

    after = table(out)
    assert summary.exit_code == 0
    assert is_exact(out)
    assert after[15]["image"] == rows[15]["image"]
    assert after[14] == rows[14]


def test_card_and_preview_are_those_of_the_dataset_now(out):
    before = (out / "README.md").read_text()
    api.retry(out, **ENGINE)

    assert "OneError" in before
    assert "OneError" not in (out / "README.md").read_text()
    assert (out / "preview.jpg").exists()


def test_steps_and_seconds_add_up_over_revisions(out):
    folder = RunFolder(open_store(out))
    before = {record.result.shard_id: record.result for record in folder.records()}
    api.retry(out, **ENGINE)

    steps = {row["row_index"]: row["num_inference_steps"] for row in table(out).values()}
    after = {record.result.shard_id: record.result for record in folder.records()}
    assert sum(result.row_steps for result in after.values()) == sum(steps.values())
    assert all(after[shard].lane_slots >= before[shard].lane_slots for shard in after)


def test_rows_with_several_pictures_keep_those_that_were_drawn(manifest, tmp_path, monkeypatch):
    out, real = tmp_path / "out", FakeRenderer._draw

    def draw(self, row, lanes):
        from sdbatch.results import RowFailure

        if row.image_id == (2, 1):
            return RowFailure(row, "OneError", "spoilt")
        return real(self, row, lanes)

    monkeypatch.setattr(FakeRenderer, "_draw", draw)
    options = {"model": "fake", "num_images_per_prompt": 3, "shard_size": 4, **INLINE}
    api.render(manifest(8, seed=list(range(8))), out, **options)
    monkeypatch.setattr(FakeRenderer, "_draw", real)

    summary = api.retry(out, **ENGINE)

    assert (summary.retried, summary.success) == (1, 24)
    found = api.open_dataset(out).to_table(["row_index", "image_index", "seed"]).to_pylist()
    seeds = {(row["row_index"], row["image_index"]): row["seed"] for row in found}
    assert seeds == {(i, k): i + k for i in range(8) for k in range(3)}
    assert is_exact(out)

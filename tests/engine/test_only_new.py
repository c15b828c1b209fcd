"""`--only-new`: what stands is left out, what is new or changed is drawn, once."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import InputError, JobError, PlanChangedError
from tests.engine.runs import INLINE, run_until

FAKE = {"model": "fake", "shard_size": 5, **INLINE}
OLD = "fake:fail=0.0001"  # another revision, since the chance of failing is part of it


@pytest.fixture
def prompts(tmp_path):
    """Writes a manifest of rows given as dicts; returns its path."""

    def write(rows, name="rows.parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        return str(tmp_path / name)

    return write


def rows(*numbers, **more):
    return [{"prompt": f"picture {i}", **more} for i in numbers]


def keys(out, run):
    folder = out / "metadata" / (f"run={run}" if run != "main" else "")
    files = [str(path) for path in sorted(folder.glob("*.parquet"))]
    return pq.read_table(files, columns=["prompt", "row_hash", "row_index"]).to_pylist()


def counts(selection):
    return (selection["new"], selection["changed"], selection["same"])


def test_only_rows_that_do_not_stand_are_drawn(prompts, tmp_path, report):
    out = tmp_path / "out"
    api.render(prompts(rows(*range(20))), out, **FAKE)
    night = prompts(rows(3, 100, 7, 101, 19, 102), "night.parquet")

    plan = api.plan(night, out, append="n1", only_new=True, **FAKE)
    summary = api.render(night, out, append="n1", only_new=True, report=report, **FAKE)

    assert counts(plan.only_new) == counts(summary.only_new) == (3, 0, 3)
    assert (summary.rows, summary.run) == (3, "n1")
    assert "new 3 / changed 0 / same 3" in plan.describe()
    assert report.lines[0].startswith("new 3 / changed 0 / same 3; 3 rows")
    assert [one["prompt"] for one in keys(out, "n1")] == [
        "picture 100",
        "picture 101",
        "picture 102",
    ]
    hashes = [one["row_hash"] for run in ("main", "n1") for one in keys(out, run)]
    assert len(set(hashes)) == len(hashes) == 23


def test_an_unchanged_prompt_without_id_stands_wherever_it_moved_and_however_often(
    prompts, tmp_path
):
    out = tmp_path / "out"
    api.render(prompts(rows(1, 2, 2, 3)), out, **FAKE)
    night = prompts(rows(9, 2, 3, 2, 2, 1), "night.parquet")
    summary = api.render(night, out, append="n1", only_new=True, **FAKE)

    # The third "picture 2" is another picture than the first two: it has another seed.
    assert counts(summary.only_new) == (2, 0, 4)
    assert [one["prompt"] for one in keys(out, "n1")] == ["picture 9", "picture 2"]
    every = api.render(night, tmp_path / "whole", **FAKE)
    fresh = {one["row_hash"] for one in keys(tmp_path / "whole", "main")}
    stands = {one["row_hash"] for run in ("main", "n1") for one in keys(out, run)}
    assert every.success == 6
    assert fresh == stands


def test_rows_are_changed_when_their_id_stands_with_another_request(prompts, tmp_path):
    out = tmp_path / "out"
    first = [{"id": f"r{i}", "prompt": f"p{i}"} for i in range(6)]
    api.render(prompts(first), out, **FAKE)
    second = [*first[:4], {"id": "r4", "prompt": "other"}, {"id": "r9", "prompt": "p9"}]
    report = api.plan(prompts(second, "b.parquet"), out, append="n1", only_new=True, **FAKE)

    assert counts(report.only_new) == (1, 1, 4)
    assert report.only_new["differs"] == ["the rows themselves"]


@pytest.mark.parametrize("by_id", [True, False])
def test_what_differs_between_the_runs_is_named(by_id, prompts, tmp_path):
    out, every = tmp_path / "out", rows(*range(8), seed=5)
    if by_id:
        every = [{**row, "id": str(i)} for i, row in enumerate(every)]
    path = prompts(every)
    api.render(path, out, **{**FAKE, "model": OLD})
    report = api.plan(path, out, append="n1", only_new=True, num_inference_steps=7, **FAKE)

    assert counts(report.only_new) == (0, 8, 0)
    was, now = report.settings["model.revision"].value, report.only_new["differs"]
    assert now[0].startswith("model revision ")
    assert now[0].endswith(f"-> {was[:12]}")
    assert now[1] == "num_inference_steps 4 -> 7"
    assert f"changed 8 ({', '.join(now)}) / same 0" in report.describe()


def test_rows_whose_pictures_the_same_best_of_kept_apart_are_not_drawn_every_night(
    prompts, tmp_path
):
    out, path = tmp_path / "out", prompts(rows(*range(6)))
    best = {**FAKE, "best_of": 3, "best_by": "sharpness"}
    api.render(path, out, **best)
    report = api.plan(path, out, append="n1", only_new=True, **best)
    other = api.plan(path, out, append="n1", only_new=True, **{**best, "best_by": "mean_luma"})

    assert counts(report.only_new) == (0, 0, 6)
    assert counts(other.only_new) == (0, 6, 0)
    assert other.only_new["differs"] == ["best_by sharpness -> mean_luma"]


def test_rows_that_a_filter_kept_apart_stand_until_the_filter_changes(prompts, tmp_path):
    out, path = tmp_path / "out", prompts(rows(*range(6)))
    kept = api.render(path, out, filter="mean_luma >= 0", **FAKE)
    same = api.plan(path, out, append="n1", only_new=True, filter="mean_luma >= 0", **FAKE)
    without = api.plan(path, out, append="n1", only_new=True, **FAKE)

    assert kept.filtered == 6
    assert counts(same.only_new) == (0, 0, 6)
    assert counts(without.only_new) == (0, 6, 0)
    assert without.only_new["differs"] == ["filter mean_luma >= 0 -> ''"]


def test_a_bad_row_of_a_night_is_named_by_its_place_in_the_whole_manifest(prompts, tmp_path):
    out = tmp_path / "out"
    api.render(prompts(rows(*range(4), num_inference_steps=3)), out, **FAKE)
    bad = [*rows(*range(4), num_inference_steps=3), *rows(9, num_inference_steps=-1)]
    night = prompts(bad, "night.parquet")
    api.render(night, out, append="n1", only_new=True, bad_rows="fail", **FAKE)

    (failed,) = (out / "errors" / "run=n1").glob("*.parquet")
    (row,) = pq.read_table(str(failed), columns=["row_index", "error_message"]).to_pylist()
    assert row["row_index"] == 0
    assert "-1: must be a whole number" in row["error_message"]
    assert row["error_message"].endswith("(row 4 of the whole manifest)")


def test_a_budget_never_advises_a_limit_that_would_look_at_rows_that_stand(prompts, tmp_path):
    out = tmp_path / "out"
    api.render(prompts(rows(*range(6))), out, **FAKE)
    night = prompts(rows(*range(12)), "night.parquet")

    with pytest.raises(JobError, match=r"comes to 6 pictures: allow --max-images 6$"):
        api.plan(night, out, append="n1", only_new=True, max_images=3, **FAKE)


def test_every_finished_run_counts_and_an_unfinished_one_does_not(prompts, tmp_path, monkeypatch):
    out = tmp_path / "out"
    api.render(prompts(rows(*range(5))), out, **FAKE)
    api.render(prompts(rows(*range(5, 9)), "b.parquet"), out, append="n1", **FAKE)
    run_until(
        *(1, monkeypatch, prompts(rows(*range(50, 90)), "c.parquet"), out),
        **{**FAKE, "append": "n2", "model": "fake:ms=20"},
    )
    night = prompts(rows(0, 5, 8, 50, 99), "night.parquet")

    report = api.plan(night, out, append="n3", only_new=True, **FAKE)
    assert counts(report.only_new) == (2, 0, 3)
    assert any("run 'n2' is not finished" in note for note in report.notes)


def test_a_row_stands_only_with_all_of_its_pictures(prompts, tmp_path):
    out = tmp_path / "out"
    api.render(prompts(rows(1, 2)), out, num_images_per_prompt=2, **FAKE)
    path = prompts(
        [{**row, "num_images_per_prompt": n} for row, n in zip(rows(1, 2), (2, 3), strict=True)],
        "b",
    )
    report = api.plan(path, out, append="n1", only_new=True, **FAKE)

    assert counts(report.only_new) == (0, 1, 1)
    assert report.images == 3


def test_a_row_that_failed_is_drawn_again(prompts, tmp_path):
    out, path = tmp_path / "out", prompts(rows(*range(60)))
    first = api.render(path, out, **{**FAKE, "model": "fake:fail=0.2"})
    again = api.plan(path, out, append="n1", only_new=True, **{**FAKE, "model": "fake:fail=0.2"})

    assert 0 < first.failed == again.rows
    assert again.only_new["same"] == first.success


def test_with_nothing_new_no_run_is_begun(prompts, tmp_path, report):
    out, path = tmp_path / "out", prompts(rows(*range(6)))
    api.render(path, out, **FAKE)
    before = sorted(out.rglob("*"))
    summary = api.render(path, out, append="n1", only_new=True, report=report, **FAKE)
    plan = api.plan(path, out, append="n1", only_new=True, **FAKE)

    assert (summary.exit_code, summary.rows, counts(summary.only_new)) == (0, 0, (0, 0, 6))
    assert "no run was begun" in report.text
    assert sorted(out.rglob("*")) == before
    assert (plan.rows, plan.images, plan.shards) == (0, 0, 0)
    assert "new 0 / changed 0 / same 6" in plan.describe()


def test_another_dataset_may_say_what_stands(prompts, tmp_path):
    old, out = tmp_path / "old", tmp_path / "out"
    api.render(prompts(rows(1, 2, 3)), old, **FAKE)
    summary = api.render(prompts(rows(2, 3, 4), "b.parquet"), out, only_new=str(old), **FAKE)

    assert counts(summary.only_new) == (1, 0, 2)
    assert [one["prompt"] for one in keys(out, "main")] == ["picture 4"]
    with pytest.raises(InputError, match="no finished run to compare with"):
        api.plan(prompts(rows(2)), out, append="n1", only_new=str(tmp_path / "none"), **FAKE)


def test_the_first_night_finds_everything_new(prompts, tmp_path):
    summary = api.render(prompts(rows(1, 2)), tmp_path / "out", only_new=True, **FAKE)

    assert counts(summary.only_new) == (2, 0, 0)


def test_a_stopped_run_goes_on_with_the_rows_it_was_begun_with(prompts, tmp_path, monkeypatch):
    out, slow = tmp_path / "out", {**FAKE, "model": "fake:ms=20"}
    api.render(prompts(rows(*range(10))), out, **FAKE)
    path = prompts(rows(*range(70)), "all.parquet")
    how = {"append": "n2", "only_new": True}
    stopped = run_until(10, monkeypatch, path, out, **slow, **how)
    # Meanwhile some of its rows come to stand in another run.
    api.render(prompts(rows(*range(60, 70)), "c.parquet"), out, append="n1", **FAKE)
    job = (out / "__sdbatch" / "n2" / "job.json").read_text()
    again = api.render(path, out, **slow, **how)

    assert stopped.exit_code == 75
    assert (again.exit_code, again.rows, again.success) == (0, 60, 60)
    assert counts(again.only_new) == (60, 0, 10)
    assert again.plan_id == json.loads(job)["plan_id"]
    assert sorted(one["prompt"] for one in keys(out, "n2")) == sorted(
        row["prompt"] for row in rows(*range(10, 70))
    )
    assert [one["row_index"] for one in keys(out, "n2")] == list(range(60))


def test_a_stopped_run_may_be_resumed_without_saying_it_again(prompts, tmp_path, monkeypatch):
    out, slow = tmp_path / "out", {**FAKE, "model": "fake:ms=20"}
    api.render(prompts(rows(0)), out, **FAKE)
    path = prompts(rows(*range(50)), "all.parquet")
    run_until(10, monkeypatch, path, out, append="n1", only_new=True, **slow)
    again = api.render(path, out, append="n1", **slow)

    assert (again.exit_code, again.rows) == (0, 49)
    assert counts(again.only_new) == (49, 0, 1)


def test_a_run_of_all_rows_is_not_narrowed_afterwards(prompts, tmp_path):
    out, path = tmp_path / "out", prompts(rows(1, 2))
    api.render(path, out, **FAKE)

    with pytest.raises(JobError, match="add --append"):
        api.render(path, out, only_new=True, **FAKE)


def test_what_was_left_out_is_part_of_the_plan(prompts, tmp_path):
    path, plans = prompts(rows(*range(6))), []
    for name, stood in (("a", (0, 1)), ("b", (0, 2)), ("c", (0, 1))):
        old = tmp_path / f"old-{name}"
        api.render(prompts(rows(*stood), f"{name}.parquet"), old, **FAKE)
        options = {"append": "n", "only_new": True, "dtype": "float32", "batch_size": 2, **FAKE}
        plans.append(api.plan(path, old, **options).plan_id)

    assert plans[0] == plans[2] != plans[1]


def test_another_manifest_under_the_same_name_is_another_plan(prompts, tmp_path):
    out = tmp_path / "out"
    api.render(prompts(rows(1)), out, **FAKE)
    api.render(prompts(rows(1, 2), "n.parquet"), out, append="n1", only_new=True, **FAKE)

    with pytest.raises(PlanChangedError, match="manifest"):
        api.render(prompts(rows(1, 2, 3), "n.parquet"), out, append="n1", only_new=True, **FAKE)


def test_rows_are_checked_for_their_identity(prompts, tmp_path):
    with pytest.raises(JobError, match="leave out --no-check"):
        api.plan(prompts(rows(1)), tmp_path / "o", only_new=True, check=False, **FAKE)


def test_rows_that_cannot_be_drawn_fail_every_night_under_their_own_prompt(prompts, tmp_path):
    def some(*numbers):
        return [{**row, "width": 64 if row["prompt"] != "picture 3" else -1}
                for row in rows(*numbers)]  # fmt: skip

    out = tmp_path / "out"
    options = {**FAKE, "bad_rows": "fail"}
    api.render(prompts(some(1, 2, 3, 4)), out, **options)
    summary = api.render(
        prompts(some(1, 4, 9, 3, 8), "b.parquet"), out, append="n1", only_new=True, **options
    )

    assert (summary.success, summary.failed) == (2, 1)
    errors = pq.read_table(str(out / "errors" / "run=n1")).to_pylist()
    assert [one["prompt"] for one in errors] == ["picture 3"]
    assert [one["prompt"] for one in keys(out, "n1")] == ["picture 9", "picture 8"]


def test_lines_of_text_and_a_limit_work_too(tmp_path):
    out, path = tmp_path / "out", tmp_path / "prompts.txt"
    path.write_text("a\nb\nc\nd\n")
    api.render(str(path), out, limit=2, **FAKE)
    path.write_text("b\na\nc\nd\ne\n")
    summary = api.render(str(path), out, append="n1", only_new=True, limit=4, **FAKE)

    assert counts(summary.only_new) == (2, 0, 2)
    assert [one["prompt"] for one in keys(out, "n1")] == ["c", "d"]


def test_a_retry_of_such_a_night_needs_no_manifest(prompts, tmp_path):
    out, path = tmp_path / "out", prompts(rows(*range(100)), "all.parquet")
    failing = {**FAKE, "model": "fake:fail=0.2"}
    api.render(prompts(rows(1, 2)), out, **failing)
    night = api.render(path, out, append="n1", only_new=True, **failing)
    prompts(rows(7), "all.parquet")  # overwritten by the next night
    done = api.retry(out, run="n1", reseed=1, engine="inline")

    assert night.failed > done.failed
    assert done.images == night.images


def test_a_retry_says_which_runs_it_leaves_alone(prompts, tmp_path, report):
    out = tmp_path / "out"
    failing = {**FAKE, "model": "fake:fail=0.3"}
    api.render(prompts(rows(*range(20))), out, **failing)
    api.render(prompts(rows(*range(40)), "b"), out, append="n1", only_new=True, **failing)
    api.retry(out, reseed=1, engine="inline", report=report)

    assert "run 'main' alone; there are also n1" in report.text

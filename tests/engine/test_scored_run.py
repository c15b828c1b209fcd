"""Runs whose pictures are judged: every number is the picture's, and nothing gets lost."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import InputError, JobError, ModelError, PlanChangedError
from sdbatch.render.judges.fake_scorer import fake_score
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.layout import logs_prefix
from sdbatch.storage.store import open_store
from tests.engine.runs import INLINE, pictures, run_until

FAKE = {**INLINE, "model": "fake", "shard_size": 8}


def manifest(count=24, **columns):
    rows = {"prompt": [f"picture {k}" for k in range(count)], "mark": [k % 3 for k in range(count)]}
    return pa.table(rows | columns)


def table(out, kind="data"):
    parts = sorted(out.glob(f"{kind}/*.parquet"))
    named = {
        file.key
        for record in RunFolder(open_store(out), "main").records()
        for _, file in record.files
    }
    parts = [part for part in parts if part.relative_to(out).as_posix() in named]
    return pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist() if parts else []


def demand_adding_up(out, planned):
    status = api.open_dataset(out).status()
    assert status.success + status.failed + status.filtered == planned
    assert status.success == len(table(out))
    assert status.filtered == len(table(out, "filtered"))
    assert status.failed == len(table(out, "errors"))


def test_every_picture_has_the_score_of_its_own_pixels(tmp_path):
    out = tmp_path / "out"
    api.render(manifest(), out, score=["clip=fake", "other=fake:ms=0"], safety="fake", **FAKE)
    found = pictures(out)
    assert len(found) == 24
    for row, pixels in found.values():
        score = np.float32(fake_score(pixels, row["prompt"]))
        assert row["clip_score"] == row["other_score"] == score
        assert row["nsfw"] == (score > 0.5)
        assert row["nsfw_score"] == np.float32(fake_score(pixels, row["prompt"]) - 0.5)
    names = pq.read_schema(next(out.glob("data/*.parquet"))).names
    at = names.index("clip_score")
    assert names[at : at + 4] == ["clip_score", "other_score", "nsfw", "nsfw_score"]
    [record] = list(RunFolder(open_store(out), "main").records())[:1]
    assert "score" in record.result.phase_seconds


def test_scorers_and_their_revisions_stand_in_the_plan(tmp_path):
    out = tmp_path / "out"
    api.render(manifest(4), out, score={"clip": "fake"}, **FAKE)
    body = json.loads(next(out.glob("__sdbatch/*/job.json")).read_text())
    [scorer] = body["spec"]["render"]["scorers"]
    assert body["spec"]["score_columns"] == ["clip_score"]
    assert body["resolved"]["scorers"] == f"clip {scorer['revision'][:16]}"
    assert api.render(manifest(4), out, **FAKE).exit_code == 0  # what stands, stands
    with pytest.raises(PlanChangedError, match="scorers: was clip"):
        api.render(manifest(4), out, score={"clip": "fake:ms=1"}, **FAKE)
    with pytest.raises(PlanChangedError, match="scorers: was clip"):
        api.render(manifest(4), out, safety="fake", **FAKE)


def test_a_plan_without_scorers_keeps_its_fingerprint():
    from sdbatch.plan.fingerprint import plan_id

    assert plan_id({"a": 1, "scorers": "", "filter": "", "best_of": None, "best_by": ""}) == (
        plan_id({"a": 1, "scores": {}, "safety": "none"})
    )


def test_a_scorer_that_fails_costs_the_number_and_says_so_in_the_log(tmp_path):
    out = tmp_path / "out"
    summary = api.render(manifest(), out, score=["clip=fake:fail=0.3", "ok=fake"], **FAKE)
    assert summary.exit_code == 0
    rows = table(out)
    lost = [row["row_index"] for row in rows if row["clip_score"] is None]
    assert len(rows) == 24
    assert all(row["ok_score"] is not None for row in rows)
    assert lost == [row["row_index"] for row in rows if row["ok_score"] < 0.3]
    assert 0 < len(lost) < 24
    store = open_store(out)
    text = b"".join(store.get(info.key) for info in store.list(logs_prefix("main")))
    lines = [json.loads(line) for line in text.splitlines()]
    said = [line["row"] for line in lines if line["event"] == "picture_unscored"]
    assert sorted(said) == lost


class Told:
    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)

    def progress(self, progress):
        """Not of interest."""

    def warnings(self):
        return [line for line in self.lines if line.startswith("warning: ")]


def test_missing_scores_and_a_condition_that_leaves_nothing_are_said_once_and_early(tmp_path):
    told = Told()
    options = {"score": ["clip=fake:fail=1"], "filter": "not is_blank", "report": told, **FAKE}
    api.render(manifest(), tmp_path / "out", **options)
    [scores, choice] = told.warnings()
    assert "8 pictures of shard 0000" in scores
    assert "lack a score" in scores
    assert "every picture of shard 0000" in choice
    assert "not what stays" in choice


def test_scores_and_choices_as_they_should_be_are_no_news(tmp_path):
    told = Told()
    options = {"score": ["clip=fake"], "filter": "mark = 1", "best_of": 2, "report": told, **FAKE}
    api.render(manifest(), tmp_path / "out", **options)
    assert told.warnings() == []


def test_a_condition_keeps_pictures_apart_with_the_part_that_was_true(tmp_path):
    out = tmp_path / "out"
    condition = "clip_score < 0.4 or mark = 2 and prompt != 'picture 2'"
    api.render(manifest(), out, score=["clip=fake"], filter=condition, **FAKE)
    demand_adding_up(out, 24)
    kept, apart = table(out), table(out, "filtered")
    for row in kept:
        assert row["clip_score"] >= 0.4
        assert row["mark"] != 2 or row["row_index"] == 2
    for row in apart:
        assert row["status"] == "filtered"
        assert row["image"]["bytes"]
        low = row["clip_score"] < 0.4
        part = condition.split(" or ")
        assert row["filter_reason"] == (part[0] if low else part[1])
    assert {row["filter_reason"] for row in apart} == set(condition.split(" or "))


def test_a_missing_score_is_held_against_no_picture(tmp_path):
    out = tmp_path / "out"
    api.render(manifest(), out, score=["clip=fake:fail=0.3"], filter="clip_score < 0.6", **FAKE)
    demand_adding_up(out, 24)
    kept = [row["clip_score"] for row in table(out)]
    assert None in kept
    assert all(score >= 0.6 for score in kept if score is not None)


def test_of_the_pictures_of_a_row_the_best_stays(tmp_path):
    out = tmp_path / "out"
    api.render(manifest(10), out, score=["clip=fake"], best_of=4, **FAKE)
    demand_adding_up(out, 40)
    kept, apart = table(out), table(out, "filtered")
    assert [row["row_index"] for row in kept] == list(range(10))
    assert {row["filter_reason"] for row in apart} == {"best_of"}
    for row in kept:
        others = [each for each in apart if each["row_index"] == row["row_index"]]
        assert len(others) == 3
        assert all(each["clip_score"] < row["clip_score"] for each in others)


def test_the_best_is_chosen_of_what_the_condition_leaves_and_of_what_was_drawn(tmp_path):
    out = tmp_path / "out"
    api.render(
        manifest(12), out, score=["clip=fake"], best_of=3, best_by="clip_score",
        filter="clip_score > 0.8", **FAKE | {"model": "fake:fail=0.3"}, allow_failed="100%",
    )  # fmt: skip
    demand_adding_up(out, 36)
    rows = {kind: table(out, kind) for kind in ("data", "filtered", "errors")}
    assert all(rows.values())
    for index in range(12):
        mine = {kind: [row for row in rows[kind] if row["row_index"] == index] for kind in rows}
        left = [row for row in mine["filtered"] if row["filter_reason"] == "best_of"]
        scores = [row["clip_score"] for row in mine["data"] + left]
        assert all(score <= 0.8 for score in scores)
        assert len(mine["data"]) == bool(scores)
        if scores:
            assert mine["data"][0]["clip_score"] == max(scores)


def test_of_equal_pictures_the_first_stays(tmp_path):
    out = tmp_path / "out"
    api.render(manifest(4), out, best_of=3, best_by="image_width", **FAKE)
    assert [row["image_index"] for row in table(out)] == [0] * 4
    demand_adding_up(out, 12)


def test_an_interrupted_run_ends_with_the_same_choice(tmp_path, monkeypatch):
    options = {
        **FAKE, "model": "fake:ms=20", "score": ["clip=fake"], "best_of": 3,
        "filter": "clip_score < 0.2", "settings": {"checkpoint_every_s": 0.05},
    }  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    api.render(manifest(40), whole, **options)
    assert run_until(20, monkeypatch, manifest(40), cut, **options).exit_code == 75
    assert api.render(manifest(40), cut, **options).exit_code == 0

    def ends(out):
        rows = [(kind, row) for kind in ("data", "filtered") for row in table(out, kind)]
        return [(kind, row["key"], row["clip_score"], row["sha256"]) for kind, row in rows]

    assert ends(cut) == ends(whole)
    demand_adding_up(cut, 120)


def test_filtered_pictures_are_drawn_again_from_other_seeds(tmp_path):
    out = tmp_path / "out"
    api.render(manifest(), out, score=["clip=fake"], filter="clip_score < 0.5", **FAKE)
    before = {row["key"]: row for row in table(out)}
    apart = {row["key"] for row in table(out, "filtered")}
    summary = api.retry(out, only="filtered", reseed=1, engine="inline")
    assert summary.exit_code == 0
    demand_adding_up(out, 24)
    after = {row["key"]: row for row in table(out)}
    assert before.items() <= after.items()
    fresh = after.keys() - before.keys()
    assert fresh
    assert fresh <= apart
    assert all(after[key]["clip_score"] >= 0.5 for key in after)
    assert {row["filter_reason"] for row in table(out, "filtered")} == {"clip_score < 0.5"}


def test_a_retry_of_failures_chooses_the_best_again_and_keeps_every_score(tmp_path):
    out = tmp_path / "out"
    api.render(
        manifest(8), out, score=["clip=fake"], best_of=3, allow_failed="100%",
        **FAKE | {"model": "fake:fail=0.3"},
    )  # fmt: skip
    scores = {row["key"]: row["clip_score"] for row in table(out) + table(out, "filtered")}
    api.retry(out, engine="inline", allow_failed="100%", reseed=3)
    demand_adding_up(out, 24)
    again = {row["key"]: row["clip_score"] for row in table(out) + table(out, "filtered")}
    assert scores.items() <= again.items()
    assert len(again) > len(scores)
    for row in table(out):
        others = [each for each in table(out, "filtered") if each["row_index"] == row["row_index"]]
        assert all(each["clip_score"] <= row["clip_score"] for each in others)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"filter": "clip_score > 0.5"}, InputError, "--filter: condition 'clip_score > 0.5'"),
        ({"filter": "is_blnk"}, InputError, "did you mean 'is_blank'?"),
        ({"filter": "prompt > 3"}, InputError, "give it 'text'"),
        ({"filter": "image is null"}, InputError, "there is no column 'image'"),
        ({"best_of": 3}, JobError, "--best-of 3: by what?"),
        ({"best_of": 3, "safety": "fake"}, JobError, "--best-of 3: by what?"),
        ({"best_of": 1, "best_by": "sharpness"}, JobError, "greater than or equal to 2"),
        ({"best_by": "sharpness"}, JobError, "says nothing without --best-of"),
        ({"best_of": 3, "best_by": "prompt"}, InputError, "is of type string"),
        ({"best_of": 3, "best_by": "sharpnes"}, InputError, "did you mean 'sharpness'?"),
        (
            {"best_of": 3, "best_by": "sharpness", "num_images_per_prompt": 2},
            JobError,
            "--num-images-per-prompt says 2",
        ),
        ({"score": ["clip"]}, JobError, "--score clip: write NAME=MODEL"),
        ({"score": ["clip=fake", "clip=fake"]}, JobError, "clip is named twice"),
        ({"score": ["Clip=fake"]}, JobError, "a name is up to 40"),
        ({"score": ["clip=no/such/model"]}, ModelError, "there is no such folder"),
        ({"score": ["safety=fake"]}, JobError, "--safety fake"),
        ({"safety": "no/such/model"}, ModelError, "there is no such folder"),
        ({"score": ["mine=fake"]}, InputError, "column 'mine_score' stands twice"),
        (
            {"score": ["nsfw=fake"], "safety": "fake"},
            InputError,
            "column 'nsfw_score' stands twice",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_written(
    tmp_path, options, error, says
):
    rows = manifest(4, mine_score=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(error) as caught:
        api.render(rows, tmp_path / "out", **FAKE | options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_manifest_that_counts_pictures_itself_has_no_best_of(tmp_path):
    rows = manifest(4, num_images_per_prompt=[1, 2, 3, 4])
    with pytest.raises(InputError, match="has a column num_images_per_prompt"):
        api.render(rows, tmp_path / "out", best_of=2, best_by="sharpness", **FAKE)

"""Scores of a dataset that stands: by key, only of what is new, and never of other bytes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.audit.gc import collect_orphans
from sdbatch.audit.pictures import committed_rows, shard_rows
from sdbatch.audit.verify import verify
from sdbatch.errors import DamagedError, InputError, JobError, ModelError, StorageError
from sdbatch.render.judges.fake_scorer import fake_score
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.score_records import ScoreFolder, score_names
from sdbatch.storage.store import open_store
from sdbatch.transfer import score_door
from sdbatch.transfer.score_files import JoinedScores
from tests.engine.runs import INLINE, pictures
from tests.render.tiny_scorers import make_checker, make_clip

FAKE = {**INLINE, "model": "fake", "shard_size": 8}


def rendered(out, count=24, **options):
    rows = pa.table({"prompt": [f"picture {k}" for k in range(count)]})
    api.render(rows, out, **FAKE | options)
    return out


def joined(out, run="main"):
    """Key to row with all scores, as export joins them."""
    store = open_store(out)
    scores = JoinedScores(store)
    found = {}
    for record in RunFolder(store, run).records():
        for batch in shard_rows(store, record, ["key", "prompt"]):
            rows = scores.join(batch, run, record.result.shard_id).to_pylist()
            found |= {row["key"]: row for row in rows}
    return found


def expected(out):
    return {
        row["key"]: np.float32(fake_score(pixels, row["prompt"]))
        for row, pixels in pictures(out).values()
    }


def scores(out, column="clip_score"):
    return {key: row[column] for key, row in joined(out).items()}


def files(out, name="clip"):
    return sorted((out / "scores" / name).rglob("*.parquet"))


@pytest.mark.parametrize("layout", ["parquet", "webdataset", "files"])
def test_every_picture_gets_the_score_of_its_pixels(tmp_path, layout):
    out = rendered(tmp_path / "out", settings={"format": layout})
    summary = api.score(out, score=["clip=fake"])
    assert (summary.pictures, summary.shards, summary.standing) == (24, 3, 0)
    rows = [row for batch in committed_rows(open_store(out)) for row in batch.to_pylist()]
    found = scores(out)
    assert list(found) == [row["key"] for row in rows]
    assert all(0 <= score < 1 for score in found.values())
    if layout == "parquet":
        assert found == expected(out)
    assert [pq.read_schema(path).names for path in files(out)] == [["key", "clip_score"]] * 3


def test_scoring_touches_nothing_else_and_gc_leaves_it(tmp_path):
    out = rendered(tmp_path / "out")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    api.score(out, score=["clip=fake"])
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    fresh = [path.relative_to(out).as_posix() for path in after.keys() - before.keys()]
    assert all("scores/clip/" in path for path in fresh)
    assert collect_orphans(open_store(out)) == []
    assert verify(open_store(out), level=3).problems == []
    assert scores(out) == expected(out)


def test_a_second_call_scores_nothing_and_another_model_needs_another_name(tmp_path):
    out = rendered(tmp_path / "out")
    api.score(out, score=["clip=fake"])
    again = api.score(out, score=["clip=fake"])
    assert (again.pictures, again.shards, again.standing) == (0, 0, 3)
    with pytest.raises(InputError, match="give the new one another name, such as clip2"):
        api.score(out, score=["clip=fake:ms=1"])
    both = api.score(out, score=["clip=fake", "clip2=fake:ms=1"], safety="fake")
    assert (both.pictures, both.shards, both.standing) == (24, 6, 3)
    assert score_names(open_store(out)) == ["clip", "clip2", "safety"]
    row = next(iter(joined(out).values()))
    assert row["clip_score"] == row["clip2_score"]
    assert row["nsfw"] == (row["clip_score"] > 0.5)


class StopAfter:
    """A reporter that asks for an end once a shard is scored."""

    def __init__(self, stop):
        self.stop = stop

    def note(self, line):
        if line.startswith("shard"):
            self.stop.request("a test")


def test_a_call_that_is_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    from sdbatch.transfer import score_door

    out = rendered(tmp_path / "out")
    stop = score_door.Stop()
    monkeypatch.setattr(score_door, "Stop", lambda: stop)
    cut = api.score(out, score=["clip=fake"], report=StopAfter(stop))
    assert (cut.exit_code, cut.pictures, cut.stopped) == (75, 8, "a test")
    assert "the same command goes on" in cut.describe()
    monkeypatch.undo()
    rest = api.score(out, score=["clip=fake"])
    assert (rest.exit_code, rest.pictures, rest.standing) == (0, 16, 1)
    assert scores(out) == expected(out)


@pytest.mark.parametrize("verb", ["put_file", "create_once"])
def test_a_store_that_fails_anywhere_costs_no_score(tmp_path, monkeypatch, verb):
    out = rendered(tmp_path / "out")
    kind = type(open_store(out))
    real, failed = getattr(kind, verb), 0
    for fails_at in range(1, 5):
        calls = []

        def flaky(self, *args, calls=calls, fails_at=fails_at, **options):
            calls.append(1)
            if len(calls) == fails_at:
                raise StorageError("503 Slow Down")
            return real(self, *args, **options)

        monkeypatch.setattr(kind, verb, flaky)
        name = f"clip{fails_at}"
        try:
            api.score(out, score={name: "fake"})
        except StorageError:
            failed += 1
        monkeypatch.setattr(kind, verb, real)
        api.score(out, score={name: "fake"})
        assert scores(out, f"{name}_score") == expected(out)
        assert len(files(out, name)) == 3  # what nobody names is gone
    assert failed >= 3


def test_after_a_retry_only_what_changed_is_scored_again(tmp_path):
    out = rendered(tmp_path / "out", model="fake:fail=0.1", allow_failed="100%")
    api.score(out, score=["clip=fake"])
    first = scores(out)
    assert first == expected(out)
    assert len(first) < 24
    api.retry(out, engine="inline", reseed=1, allow_failed="100%")
    changed = [r.result.shard_id for r in RunFolder(open_store(out)).records() if r.revision]
    stale = scores(out)
    assert None in stale.values()  # never the score of other bytes
    assert all(value is None or value == expected(out)[key] for key, value in stale.items())
    again = api.score(out, score=["clip=fake"])
    assert (again.shards, again.standing) == (len(changed), 3 - len(changed))
    assert scores(out) == expected(out)
    assert first.items() <= scores(out).items()
    assert len(files(out)) == 3


def test_an_appended_run_is_scored_by_the_same_call(tmp_path):
    out = rendered(tmp_path / "out")
    api.score(out, score=["clip=fake"])
    rows = pa.table({"prompt": [f"later {k}" for k in range(8)]})
    api.render(rows, out, append="20261122", **FAKE)
    only = api.score(out, score=["clip=fake"])
    assert (only.pictures, only.standing) == (8, 3)
    assert all(row["clip_score"] is not None for row in joined(out, "20261122").values())
    assert (out / "scores/clip/run=20261122").is_dir()
    assert len(files(out)) == 4


def test_a_failing_scorer_leaves_a_null_and_says_why(tmp_path):
    out = rendered(tmp_path / "out")
    summary = api.score(out, score=["clip=fake:fail=0.3"])
    found = scores(out)
    missing = [key for key, value in expected(out).items() if value < 0.3]
    assert [key for key, value in found.items() if value is None] == missing
    assert summary.missing == len(missing) > 0
    assert "clip: RuntimeError: this picture was chosen to fail" in summary.describe()
    record = ScoreFolder(open_store(out), "main", "clip").record(0, 0)
    assert record.file.num_rows == 8


def test_scores_made_in_the_run_and_afterwards_are_the_same_number(tmp_path):
    clip, checker = make_clip(tmp_path / "clip"), make_checker(tmp_path / "safe")
    out = rendered(tmp_path / "out", 6, score=[f"clip={clip}"], safety=str(checker))
    during = {row["key"]: row for row, _ in pictures(out).values()}
    other = rendered(tmp_path / "other", 6)
    api.score(other, score=[f"clip={clip}"], safety=str(checker))
    for key, row in joined(other).items():
        assert row["clip_score"] == during[key]["clip_score"] is not None
        assert row["nsfw_score"] == during[key]["nsfw_score"] is not None
        assert row["nsfw"] == during[key]["nsfw"]


def test_export_chooses_by_scores_made_afterwards(tmp_path):
    out = rendered(tmp_path / "out")
    api.score(out, score=["clip=fake"])
    api.export(out, tmp_path / "best", where="clip_score > 0.5")
    rows = pq.read_table(tmp_path / "best" / "data", columns=["key", "clip_score"]).to_pylist()
    assert {row["key"]: row["clip_score"] for row in rows} == {
        key: score for key, score in expected(out).items() if score > 0.5
    }


def test_a_file_of_scores_that_rotted_is_not_believed(tmp_path):
    out = rendered(tmp_path / "out")
    api.score(out, score=["clip=fake"])
    path = files(out)[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DamagedError, match="not those of its record"):
        scores(out)
    path.unlink()
    lines = []
    again = api.score(out, score=["clip=fake"], report=Listener(lines))
    assert (again.shards, again.standing) == (1, 2)
    assert "shard 00000: the file of its clip scores is lost, made again" in lines
    assert scores(out) == expected(out)


class Listener:
    def __init__(self, lines):
        self.note = lines.append


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, InputError, "nothing to score with"),
        ({"safety": "none"}, InputError, "nothing to score with"),
        ({"score": ["clip"]}, JobError, "write NAME=MODEL"),
        ({"score": ["clip=no/such/model"]}, ModelError, "there is no such folder"),
        ({"score": ["a=fake"]}, InputError, "column 'a_score' is in the dataset already"),
        ({"score": ["b=fake"], "batch_size": 0}, InputError, "--batch-size 0"),
        ({"score": ["b=fake"], "run": "other"}, InputError, "holds no run 'other'"),
        ({"score": ["nsfw=fake"], "safety": "fake"}, InputError, "'nsfw_score' is also given by"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_nothing_written(tmp_path, options, error, says):
    out = rendered(tmp_path / "out", 4, score=["a=fake"])
    before = sorted(out.rglob("*"))
    with pytest.raises(error) as caught:
        api.score(out, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(out.rglob("*")) == before


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no run 'main'"):
        api.score(tmp_path, score=["clip=fake"])
    assert not list(tmp_path.iterdir())


def test_the_record_says_of_which_bytes_it_speaks(tmp_path):
    out = rendered(tmp_path / "out")
    api.score(out, score=["clip=fake"], batch_size=3)
    [commit, *_] = RunFolder(open_store(out)).records()
    path = out / "__sdbatch/main/scores/clip/commits/000/00000.json"
    record = json.loads(path.read_text())
    assert record["data_sha256"] == commit.result.data.sha256
    assert record["batch_size"] == 3
    assert record["scorer"] == json.loads(
        (out / "__sdbatch/main/scores/clip/scorer.json").read_text()
    )["revision"]  # fmt: skip


def test_what_cannot_be_scored_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(score_door, "load_panel", lambda *args, **how: loaded.append(args))
    out = rendered(tmp_path / "out", score=["clip=fake"])
    with pytest.raises(InputError, match="'clip_score' is in the dataset already"):
        api.score(out, score=["clip=fake"])
    with pytest.raises(InputError, match="holds no run"):
        api.score(tmp_path / "none", score=["clip=fake"])
    assert not loaded

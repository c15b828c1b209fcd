"""Scores that were made after the run stand in every exported row, and decide with it."""

from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from sdbatch.audit.pictures import shard_rows
from sdbatch.model_specs import ScorerSpec
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.score_records import claim_name
from sdbatch.storage.store import open_store
from sdbatch.transfer import export as export_module
from sdbatch.transfer.doors import export
from sdbatch.transfer.score_files import ScoreWriter
from tests.transfer.exports import ledger, order, read, render

PANEL = SimpleNamespace(device="cpu", batch_size=1)


def score(out, folder, name="clip", shards=range(100), of=lambda seed: seed / 10):
    """Give every row of some shards a score that follows from its seed."""
    store = open_store(out)
    spec = ScorerSpec(name, "clip", "m", "p", f"revision of {name}")
    claim_name(store, spec)
    for record in RunFolder(store).records():
        if record.result.shard_id in shards:
            rows = [
                row
                for batch in shard_rows(store, record, ["key", "seed"])
                for row in batch.to_pylist()
            ]
            values = [{spec.columns[0]: of(row["seed"])} for row in rows]
            keys = [row["key"] for row in rows]
            ScoreWriter(store, "main", folder, PANEL).write(spec, record, keys, values, 0.1)


@pytest.fixture
def out(tmp_path):
    render(tmp_path / "out", count=30, shard_size=10, model="fake")
    return tmp_path / "out"


@pytest.mark.parametrize("kind", ["parquet", "webdataset", "files"])
def test_scores_are_columns_of_an_export(kind, out, tmp_path):
    score(out, tmp_path)
    export(out, tmp_path / "d", format=kind)
    found = read(tmp_path / "d")

    assert len(found) == 30
    assert all(row["clip_score"] == pytest.approx(row["seed"] / 10) for row in found.values())


def test_a_condition_may_name_a_score(out, tmp_path):
    score(out, tmp_path)
    summary = export(out, tmp_path / "d", where="clip_score > 1.45 and seed != 20")

    assert {row["seed"] for row in read(tmp_path / "d").values()} == {*range(15, 30)} - {20}
    assert (summary.exported, summary.left_out) == (14, 16)


def test_rows_that_are_scored_later_come_in_later(out, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "MB", 7000)
    score(out, tmp_path, shards={0})
    first = export(out, tmp_path / "d", where="clip_score >= 0", shard_mb=1)
    score(out, tmp_path, shards={1, 2})
    second = export(out, tmp_path / "d", shard_mb=1)

    assert (first.exported, second.exported, second.new) == (10, 30, 20)
    assert order(tmp_path / "d") == list(ledger(out))


def test_a_scorer_that_comes_later_gives_every_file_its_column(out, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "MB", 7000)
    export(out, tmp_path / "d", shard_mb=1)
    score(out, tmp_path, shards={1})
    summary = export(out, tmp_path / "d", shard_mb=1)
    schemas = {pq.read_schema(path).remove_metadata() for path in (tmp_path / "d/data").iterdir()}
    scores = {row["seed"]: row["clip_score"] for row in read(tmp_path / "d").values()}

    assert len(schemas) == 1
    assert (summary.exported, summary.new, summary.written) == (30, 0, 30)
    assert [seed for seed, value in scores.items() if value is not None] == [*range(10, 20)]


def test_scores_that_stand_are_no_reason_to_write_again(out, tmp_path):
    score(out, tmp_path)
    export(out, tmp_path / "d", where="clip_score > 1")

    assert export(out, tmp_path / "d").written == 0

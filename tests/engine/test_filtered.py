"""Pictures that are filtered stay in the dataset, apart, through every later change of it."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from sdbatch import api
from sdbatch.audit.pictures import committed_rows
from sdbatch.engine import commit_shard
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import open_store
from tests.engine.reworks import ENGINE, spoil
from tests.engine.runs import INLINE

FILTERED = {2: "nsfw", 13: "is_blank", 14: "is_blank"}
FAULTS = {5: "OneError"}


def filtering(monkeypatch, rows):
    """From now on these rows are filtered, whatever else decides so."""
    write = commit_shard.write_shard

    def filter_some(spool, *args, **options):
        keys = {image.columns["key"]: image.columns["row_index"] for image in spool}
        reasons = {key: rows[row] for key, row in keys.items() if row in rows}
        return write(spool, *args, **{**options, "filtered": reasons})

    monkeypatch.setattr(commit_shard, "write_shard", filter_some)


@pytest.fixture
def out(manifest, tmp_path, monkeypatch):
    """Twenty pictures in two shards, of which three were filtered and one failed."""
    spoil(monkeypatch, FAULTS)
    with monkeypatch.context() as patch:
        filtering(patch, FILTERED)
        path = manifest(20, tag=[f"tag {i}" for i in range(20)])
        summary = api.render(path, tmp_path / "out", model="fake", shard_size=10, **INLINE)
    assert (summary.success, summary.failed, summary.filtered) == (16, 1, 3)
    spoil(monkeypatch, {})
    return tmp_path / "out"


def rows(out, kind):
    found = list(committed_rows(open_store(out), pictures=kind != "errors", kind=kind))
    return {row["row_index"]: row for row in pa.Table.from_batches(found).to_pylist()}


def test_filtered_pictures_stand_apart_with_their_reason_and_all_columns(out):
    filtered, data = rows(out, "filtered"), rows(out, "data")

    assert {row: filtered[row]["filter_reason"] for row in filtered} == FILTERED
    assert not FILTERED.keys() & data.keys()
    assert filtered[2].keys() - data[0].keys() == {"filter_reason"}
    for index, row in filtered.items():
        assert (row["tag"], row["status"]) == (f"tag {index}", "filtered")
        assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (64, 64)


def test_every_level_of_verify_counts_them(out):
    report = api.open_dataset(out).verify(3)

    assert (report.exit_code, report.filtered, report.images_checked) == (0, 3, 19)
    assert api.open_dataset(out).status().filtered == 3


def test_a_shard_without_its_file_of_filtered_pictures_is_damaged(out):
    next((out / "filtered").iterdir()).unlink()

    report = api.open_dataset(out).verify(1)

    assert [problem.kind for problem in report.problems] == ["missing"]


def test_a_retry_of_failures_keeps_what_was_filtered(out):
    before = rows(out, "filtered")

    summary = api.retry(out, **ENGINE)

    assert (summary.success, summary.failed, summary.filtered) == (17, 0, 3)
    assert rows(out, "filtered") == before
    assert api.open_dataset(out).verify(3).exit_code == 0


def test_filtered_pictures_are_drawn_again_from_other_seeds_alone(out):
    before, kept = rows(out, "filtered"), rows(out, "data")

    summary = api.retry(out, only="filtered", reseed=1, **ENGINE)

    after = rows(out, "data")
    assert (summary.success, summary.failed, summary.filtered) == (19, 1, 0)
    assert {index: after[index] for index in kept} == kept
    assert all(after[index]["seed"] != before[index]["seed"] for index in FILTERED)
    assert not list((out / "filtered").iterdir())  # the older file is collected


def test_a_repair_draws_filtered_pictures_whose_file_is_lost(out):
    file = min((out / "filtered").iterdir())
    file.unlink()

    summary = api.repair(out, **ENGINE)

    assert (summary.success, summary.failed, summary.filtered) == (17, 1, 2)
    assert api.open_dataset(out).verify(3).exit_code == 0


def test_a_filtered_picture_can_be_replayed(out):
    report = api.open_dataset(out).replay([13])

    assert [(one.stored, one.equal) for one in report.pictures] == [("filtered", True)]


def test_a_record_of_the_first_protocol_is_read_as_one_without_filtered_pictures(out):
    store = open_store(out)
    key = "__sdbatch/main/commits/000/00000.json"
    line = store.get(key).replace(b'"protocol":2', b'"protocol":1')
    old = line[: line.index(b',"filtered_file"')] + b"}\n"
    store.delete(key)
    assert store.create_once(key, old)

    record = RunFolder(store).read_record(key)

    assert record.result.filtered_file is None
    assert [kind for kind, _ in record.files] == ["data", "metadata", "errors"]


def test_pixels_of_filtered_pictures_are_those_that_were_drawn(out, manifest, tmp_path):
    path = manifest(20, tag=[f"tag {i}" for i in range(20)])
    api.render(path, tmp_path / "whole", model="fake", shard_size=10, **INLINE)
    whole = rows(tmp_path / "whole", "data")

    for index, row in rows(out, "filtered").items():
        found, drawn = (
            Image.open(io.BytesIO(one["image"]["bytes"])) for one in (row, whole[index])
        )
        assert np.array_equal(np.asarray(found), np.asarray(drawn))

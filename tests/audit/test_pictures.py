"""Reading a dataset back from its records, in every form the readers above need."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from sdbatch import api
from sdbatch.audit.pictures import committed_rows
from sdbatch.errors import DamagedError, InputError
from sdbatch.storage.store import open_store


@pytest.fixture
def dataset(manifest, tmp_path):
    """Twelve pictures in three shards, some of which failed."""
    api.render(
        manifest(12, tag=[f"tag {i}" for i in range(12)]),
        tmp_path / "out",
        model="fake:fail=0.3",
        size="64x64",
        shard_size=4,
        engine="inline",
        allow_failed="100%",
    )
    return open_store(tmp_path / "out")


def failed(dataset):
    rows = committed_rows(dataset, columns=["row_index"], kind="errors")
    return table(rows)["row_index"].to_pylist()


def table(batches):
    return pa.Table.from_batches(list(batches))


def test_rows_come_in_the_order_of_the_manifest_with_every_column(dataset):
    rows = table(committed_rows(dataset))
    drawn = rows["row_index"].to_pylist()

    assert drawn == sorted(drawn)
    assert sorted(drawn + failed(dataset)) == list(range(12))
    assert "image" not in rows.column_names
    assert rows["tag"].to_pylist() == [f"tag {i}" for i in rows["row_index"].to_pylist()]


def test_pictures_are_those_of_their_rows(dataset):
    rows = table(committed_rows(dataset, columns=["sha256", "key"], pictures=True))

    assert rows.column_names == ["sha256", "key", "image"]
    for row in rows.to_pylist():
        assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["sha256"]
        assert row["image"]["path"] == f"{row['key']}.png"


def test_a_file_that_no_record_names_is_not_seen(dataset):
    before = table(committed_rows(dataset)).num_rows
    lost = next(info.key for info in dataset.list("metadata/"))
    dataset.put(lost[: -len("deadbeef.parquet")] + "deadbeef.parquet", dataset.get(lost))

    assert table(committed_rows(dataset)).num_rows == before


def test_failures_are_asked_for_by_their_kind(dataset):
    assert failed(dataset)
    with pytest.raises(InputError, match="no picture"):
        list(committed_rows(dataset, kind="errors", pictures=True))


def test_an_unknown_column_is_named_with_those_that_are_there(dataset):
    with pytest.raises(InputError, match="column 'colour': is not here, there are key"):
        list(committed_rows(dataset, columns=["colour"]))


def test_a_damaged_file_is_named(dataset):
    broken = next(info.key for info in dataset.list("metadata/"))
    dataset.put(broken, b"nothing of this is Parquet")

    with pytest.raises(DamagedError, match="metadata/train-00000"):
        list(committed_rows(dataset))

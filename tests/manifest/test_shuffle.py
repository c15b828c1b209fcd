import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.errors import InputError
from sdbatch.manifest import shuffle as module
from sdbatch.manifest.reader import open_manifest
from sdbatch.manifest.shuffle import RowKeys, shuffle


@pytest.fixture
def rows(write):
    return write({"prompt": [f"p{i}" for i in range(1000)], "tags": [["a", str(i)] for i in range(1000)]})  # fmt: skip # noqa: E501


def test_every_row_is_there_once_in_another_order(rows, tmp_path):
    assert shuffle(open_manifest(rows), tmp_path / "out.parquet", seed=3) == 1000

    before, after = pq.read_table(rows), pq.read_table(tmp_path / "out.parquet")
    assert after.schema.equals(before.schema)
    assert after["prompt"].to_pylist() != before["prompt"].to_pylist()
    assert sorted(after.to_pylist(), key=str) == sorted(before.to_pylist(), key=str)


def test_a_seed_gives_the_same_bytes_however_little_memory_there_is(rows, tmp_path, monkeypatch):
    shuffle(open_manifest(rows), tmp_path / "whole.parquet", seed=5)
    monkeypatch.setattr(module, "PART_BYTES", 100)
    shuffle(open_manifest(rows), tmp_path / "pieces.parquet", seed=5)
    shuffle(open_manifest(rows), tmp_path / "other.parquet", seed=6)

    whole, pieces, other = (
        (tmp_path / f"{name}.parquet").read_bytes() for name in ("whole", "pieces", "other")
    )
    assert whole == pieces != other


def test_row_numbers_do_not_depend_on_how_they_are_asked_for():
    keys = RowKeys(9)
    pieces = np.concatenate([keys.take(rows) for rows in (1, 63, 7, 929)])

    assert (pieces == RowKeys(9).take(1000)).all()


def test_a_file_that_is_there_stays_unless_it_may_go(rows, tmp_path):
    out = tmp_path / "out.parquet"
    out.write_bytes(b"mine")

    with pytest.raises(InputError, match="--overwrite"):
        shuffle(open_manifest(rows), out)
    assert out.read_bytes() == b"mine"

    shuffle(open_manifest(rows), out, overwrite=True)
    assert pq.read_metadata(out).num_rows == 1000


def test_a_shuffle_that_breaks_off_leaves_nothing(rows, tmp_path, monkeypatch):
    def broken(path):
        raise RuntimeError

    monkeypatch.setattr(module, "_sorted", broken)
    with pytest.raises(RuntimeError):
        shuffle(open_manifest(rows), tmp_path / "out.parquet")

    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_table_may_be_longer_than_a_row_group(write, tmp_path, monkeypatch):
    monkeypatch.setattr("sdbatch.manifest.written.ROW_GROUP_ROWS", 64)
    path = write({"prompt": pa.array(str(i) for i in range(200))})
    shuffle(open_manifest(path), tmp_path / "out.parquet")

    footer = pq.read_metadata(tmp_path / "out.parquet")
    assert footer.num_rows == 200
    assert max(footer.row_group(n).num_rows for n in range(footer.num_row_groups)) == 64

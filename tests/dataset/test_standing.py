"""Standing rows come back as they were written, however much around them is broken."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.dataset import row_groups
from sdbatch.dataset.layouts import write_shard
from sdbatch.dataset.schema import dataset_schema
from sdbatch.dataset.spool import Spool
from sdbatch.dataset.standing import is_sound, standing_rows, unharmed_rows
from sdbatch.errors import DamagedError
from tests.dataset.samples import add_failure, add_picture

ROWS = 12
SCHEMA = dataset_schema([pa.field("label", pa.string())])
USER = pa.table({"row_index": range(ROWS), "label": [f"label {i}" for i in range(ROWS)]})


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Files of a shard, and what was put into them: several small row groups."""
    folder = tmp_path_factory.mktemp("shard")
    with pytest.MonkeyPatch.context() as patch, Spool(folder / "spool", SCHEMA) as spool:
        patch.setattr(row_groups, "GROUP_ROWS", 3)
        for index in range(ROWS):
            (add_failure if index % 5 == 4 else add_picture)(spool, index)
        held = {image.image_id: image for image in spool}
        files = write_shard(spool, USER, folder / "out", "plan", "main")
        again = write_shard(spool, USER, folder / "again", "plan", "main")
    assert again.data.sha256 == files.data.sha256
    return files, held


def test_every_row_comes_back_with_its_columns_and_bytes(shard):
    files, held = shard
    found = [*standing_rows(files.data.path), *standing_rows(files.errors.path)]

    assert sorted(row[0] for row in found) == sorted(held)
    for image_id, columns, data in found:
        assert data == held[image_id].data
        kept = {name: value for name, value in columns.items() if value is not None}
        assert kept == {name: held[image_id].columns[name] for name in kept}


def test_rows_written_again_give_the_same_files(shard, tmp_path, monkeypatch):
    files, _ = shard
    monkeypatch.setattr(row_groups, "GROUP_ROWS", 3)
    with Spool(tmp_path / "spool", SCHEMA) as spool:
        for path in (files.data.path, files.errors.path):
            for image_id, columns, data in standing_rows(path):
                assert spool.append(image_id, columns, data, saved=True)
        assert spool.write_part(tmp_path / "part") == []
        again = write_shard(spool, USER, tmp_path / "out", "plan", "main")

    assert again.data.sha256 == files.data.sha256
    assert again.metadata.sha256 == files.metadata.sha256
    assert again.errors.sha256 == files.errors.sha256


def test_a_file_that_is_none_of_ours_is_refused(tmp_path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), path)

    with pytest.raises(DamagedError):
        list(standing_rows(path))


def test_memory_holds_a_row_group_and_never_a_file(tmp_path, monkeypatch):
    """Forty groups of 1 MB are read with a few of them in memory."""
    path, data = tmp_path / "data.parquet", hashlib.sha256(b"x").digest() * 8192
    monkeypatch.setattr(row_groups, "GROUP_BYTES", 4 * len(data))
    with row_groups.RowGroupFile(path, dataset_schema([])) as file:
        for index in range(160):
            columns = {"key": f"{index}", "format": "png", "row_index": index, "image_index": 0}
            file.add(columns, data)
        file.finish()
    pool = pa.default_memory_pool()
    pool.release_unused()
    before, most = pool.bytes_allocated(), 0
    for _ in standing_rows(path):
        most = max(most, pool.bytes_allocated() - before)

    assert path.stat().st_size > 40 * 2**20
    assert most < 4 * 2**20


def flipped(path, at, tmp_path):
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << at % 8
    target = tmp_path / "flipped.parquet"
    target.write_bytes(bytes(data))
    return target


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 2**20), length=st.integers(0, 2**20))
def test_a_damaged_file_never_yields_a_picture_that_is_not_the_stored_one(
    shard, tmp_path_factory, at, length
):
    files, held = shard
    broken = flipped(files.data.path, at, tmp_path_factory.getbasetemp())
    if length % 4 == 0:
        broken.write_bytes(broken.read_bytes()[: length % files.data.size_bytes])
    for image_id, columns, data in unharmed_rows(files.metadata.path, broken):
        assert data == held[image_id].data
        assert columns["key"] == held[image_id].columns["key"]


def test_one_flipped_picture_costs_itself_alone(shard, tmp_path):
    files, held = shard
    picture = held[(3, 0)].data
    at = files.data.path.read_bytes().index(picture) + len(picture) // 2
    broken = flipped(files.data.path, at, tmp_path)

    found = {row[0] for row in unharmed_rows(files.metadata.path, broken)}
    drawn = {image_id for image_id, image in held.items() if image.data is not None}
    assert found == drawn - {(3, 0)}


def test_a_picture_is_sound_when_bytes_and_pixels_are_those_of_its_columns(shard):
    files, _ = shard
    image_id, columns, data = next(standing_rows(files.data.path))

    assert is_sound((image_id, columns, data))
    assert not is_sound((image_id, columns, None))
    assert not is_sound((image_id, columns, data + b"x"))
    assert not is_sound((image_id, columns | {"pixel_sha256": "0" * 64}, data))
    torn = data[: len(data) // 2]
    claimed = columns | {"sha256": hashlib.sha256(torn).hexdigest()}
    assert not is_sound((image_id, claimed, torn))

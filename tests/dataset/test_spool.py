"""The spool loses nothing it took and keeps nothing half."""

import errno
import threading

import pyarrow.parquet as pq
import pytest

from sdbatch.dataset import spool as spool_module
from sdbatch.dataset.images import decode
from sdbatch.dataset.schema import dataset_schema
from sdbatch.dataset.spool import Spool
from sdbatch.errors import DamagedError, SdbatchError, StorageError
from tests.dataset.samples import add_failure, add_picture, pixels

SCHEMA = dataset_schema([])


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool", SCHEMA) as opened:
        yield opened


def test_pictures_come_back_in_row_order_whatever_their_arrival(spool):
    for image_id in [(9, 0), (2, 1), (10, 0), (2, 0)]:
        add_picture(spool, *image_id)

    assert [held.image_id for held in spool] == [(2, 0), (2, 1), (9, 0), (10, 0)]
    assert spool.image_ids() == [(9, 0), (2, 1), (10, 0), (2, 0)]
    for held in spool:
        assert (decode(held.data) == pixels(*held.image_id)).all()
        assert held.columns["row_index"] == held.image_id[0]


def test_a_failure_is_kept_without_a_picture(spool):
    add_failure(spool, 4)

    (held,) = spool
    assert held.data is None
    assert (held.columns["status"], held.columns["error_type"]) == ("failed", "NonFiniteError")


def test_a_picture_is_kept_once_and_the_first_one_stays(spool):
    assert add_picture(spool, 1)
    assert not add_failure(spool, 1)

    assert len(spool) == 1
    assert next(iter(spool)).columns["status"] == "success"


def test_threads_may_append_and_read_at_once(spool):
    def append(start):
        for index in range(start, start + 25):
            add_picture(spool, index)
            assert (1000, 0) not in spool
            for held in spool:
                assert held.data is not None

    threads = [threading.Thread(target=append, args=(25 * k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [held.image_id for held in spool] == [(index, 0) for index in range(100)]


def test_a_column_that_the_schema_lacks_is_refused_at_once(spool):
    with pytest.raises(SdbatchError, match="no such column: colour"):
        spool.append((1, 0), {"key": "x", "colour": "red"}, b"")


def test_an_append_that_dies_half_way_leaves_the_rest_as_it_was(spool, monkeypatch):
    add_picture(spool, 1)
    whole = spool_module._write_all

    def full_disk(file, data):
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module, "_write_all", full_disk)
    with pytest.raises(StorageError, match="No space left on device"):
        add_picture(spool, 2)
    monkeypatch.setattr(spool_module, "_write_all", whole)
    add_picture(spool, 3)
    add_picture(spool, 2)

    assert [held.image_id for held in spool] == [(1, 0), (2, 0), (3, 0)]
    for held in spool:
        assert (decode(held.data) == pixels(*held.image_id)).all()


def test_a_full_disk_is_one_line_about_local_disk(spool, monkeypatch):
    def full_disk(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool_module, "_write_all", full_disk)
    with pytest.raises(StorageError) as caught:
        add_picture(spool, 2)

    assert str(caught.value).splitlines() == [str(caught.value)]
    assert "spool.bin: No space left on device: " in str(caught.value)
    assert caught.value.retryable


def test_debris_of_a_dead_attempt_is_overwritten(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "spool.bin").write_bytes(b"half a picture")

    with Spool(folder, SCHEMA) as spool:
        add_picture(spool, 1)

        assert len(spool) == 1
        assert (decode(next(iter(spool)).data) == pixels(1)).all()


def test_close_deletes_everything_and_may_be_repeated(tmp_path):
    spool = Spool(tmp_path / "spool", SCHEMA)
    add_picture(spool, 1)

    spool.close()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_part_holds_what_no_earlier_part_held(spool, tmp_path):
    add_picture(spool, 5)
    add_picture(spool, 1)
    first = spool.write_part(tmp_path / "0.part")
    add_failure(spool, 3)
    second = spool.write_part(tmp_path / "1.part")

    assert (first, second) == ([(1, 0), (5, 0)], [(3, 0)])
    assert pq.read_table(tmp_path / "1.part")["status"].to_pylist() == ["failed"]


def test_nothing_new_makes_no_part(spool, tmp_path):
    assert spool.write_part(tmp_path / "0.part") == []
    assert not (tmp_path / "0.part").exists()


def test_parts_rebuild_a_spool_exactly(spool, tmp_path):
    add_picture(spool, 1)
    add_failure(spool, 2)
    spool.write_part(tmp_path / "0.part")
    add_picture(spool, 3)
    spool.write_part(tmp_path / "1.part")

    with Spool(tmp_path / "second", SCHEMA) as second:
        taken = [second.load_part(tmp_path / f"{number}.part") for number in (1, 0)]

        assert taken == [[(3, 0)], [(1, 0), (2, 0)]]
        for ours, theirs in zip(spool, second, strict=True):
            assert ours.data == theirs.data
            assert ours.columns.items() <= theirs.columns.items()


def test_a_part_adds_only_pictures_that_are_not_held(spool, tmp_path):
    add_picture(spool, 1)
    add_picture(spool, 2)
    spool.write_part(tmp_path / "0.part")

    with Spool(tmp_path / "second", SCHEMA) as second:
        add_failure(second, 2)
        assert second.load_part(tmp_path / "0.part") == [(1, 0)]
        assert second.load_part(tmp_path / "0.part") == []

        assert [held.columns["status"] for held in second] == ["success", "failed"]
        assert second.write_part(tmp_path / "1.part") == [(2, 0)]


@pytest.mark.parametrize("kept", [0, 4, 500])
def test_a_cut_off_part_is_damage(spool, tmp_path, kept):
    add_picture(spool, 1)
    part = tmp_path / "0.part"
    spool.write_part(part)
    part.write_bytes(part.read_bytes()[:kept])

    with (
        Spool(tmp_path / "second", SCHEMA) as second,
        pytest.raises(DamagedError, match=r"0\.part: damaged"),
    ):
        second.load_part(part)


def test_a_parquet_file_of_other_columns_is_no_part(spool, tmp_path):
    pq.write_table(SCHEMA.empty_table(), tmp_path / "data.parquet")

    with pytest.raises(DamagedError, match="not those of a part"):
        spool.load_part(tmp_path / "data.parquet")

"""Keys to stored pictures: which files are read, and what is said of keys that are not there."""

from pathlib import Path

import pytest

from sdbatch import api
from sdbatch.engine.planned_model import read_job
from sdbatch.engine.stored_rows import find_pictures
from sdbatch.errors import DamagedError, InputError
from sdbatch.plan.rows import hash_of
from sdbatch.records import RowStatus


@pytest.fixture
def store(manifest, tmp_path):
    """Thirty rows of three sizes in shards of four rows, half of them failed."""
    path = manifest(30, width=[64, 128, 96] * 10)
    api.render(path, tmp_path / "out", model="fake:fail=0.5", engine="inline", shard_size=4)
    return api.open_dataset(tmp_path / "out").store


def test_every_picture_is_found_with_the_request_it_was_drawn_from(store):
    job = read_job(store, "main")

    found = find_pictures(store, job, range(30))

    assert [picture.row.row_index for picture in found] == list(range(30))
    assert {picture.status for picture in found} == {RowStatus.SUCCESS, RowStatus.FAILED}
    for picture in found:
        assert picture.row.width_px == [64, 128, 96][picture.row.row_index % 3]
        assert picture.row.row_hash == hash_of(picture.row, job.spec.render.model_revision)


def test_pictures_come_in_the_order_of_their_keys(store):
    job = read_job(store, "main")

    found = find_pictures(store, job, ["000000020_000", 4, 11])

    assert [picture.row.row_index for picture in found] == [20, 4, 11]


def test_only_files_of_shards_that_may_hold_the_row_are_opened(manifest, tmp_path, monkeypatch):
    api.render(
        manifest(30), tmp_path / "o", model="fake", engine="inline", shard_size=4, size="64x64"
    )
    store = api.open_dataset(tmp_path / "o").store
    opened = []
    real = store.open
    monkeypatch.setattr(store, "open", lambda key: opened.append(key) or real(key))

    find_pictures(store, read_job(store, "main"), [13, 14])

    files = [key.split("-of-")[0] for key in opened if not key.startswith("__sdbatch/")]
    assert files == ["metadata/train-00003", "data/train-00003"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("30", "holds rows 0 to 29, keys 000000000_000 to 000000029_000"),
        ("000000030_000", "holds rows 0 to 29"),
        ("night-000000003_000", "is not here; .* keys 000000000_000 to"),
        ("000000003_007", "row 3 has 000000003_000 to 000000003_000"),
        ("cat", "must be like 000000012_000 or a row number such as 12"),
        ("-1", "must be like"),
        ("", "must be like"),
    ],
)
def test_a_key_that_is_not_here_is_refused_with_those_that_are(store, key, said):
    with pytest.raises(InputError, match=said):
        find_pictures(store, read_job(store, "main"), [key])


def test_a_row_that_is_planned_and_not_drawn_yet_is_said_to_be_so(store):
    for path in Path(store.url, "__sdbatch", "main", "commits", "000").glob("*.json"):
        path.unlink()

    with pytest.raises(InputError, match="is planned and not drawn yet"):
        find_pictures(store, read_job(store, "main"), [3])


def test_a_data_file_in_another_order_than_its_metadata_is_damage(store):
    files = sorted(Path(store.url, "data").glob("*.parquet"))
    files[0].write_bytes(files[1].read_bytes())
    job = read_job(store, "main")

    with pytest.raises(DamagedError, match="is not where metadata has it"):
        find_pictures(store, job, range(30))


def test_a_file_that_is_no_parquet_is_damage(store):
    for path in Path(store.url, "metadata").glob("*.parquet"):
        path.write_bytes(b"PAR1 nothing PAR1")

    with pytest.raises(DamagedError, match="cannot be read"):
        find_pictures(store, read_job(store, "main"), [3])

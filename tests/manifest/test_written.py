"""New manifests appear whole or not at all."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.errors import InputError, StorageError
from sdbatch.manifest.written import write_manifest

TABLE = pa.table({"prompt": ["a", "b"]})


def test_rows_are_streamed_into_even_groups(tmp_path):
    rows = write_manifest(tmp_path / "new" / "m.parquet", TABLE.schema, [TABLE] * 50_000)

    footer = pq.read_metadata(tmp_path / "new" / "m.parquet")
    assert rows == footer.num_rows == 100_000
    assert footer.num_row_groups == 2


def test_what_stops_halfway_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "m.parquet"
    write_manifest(path, TABLE.schema, [TABLE])
    before = path.read_bytes()

    def broken():
        yield TABLE
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        write_manifest(path, TABLE.schema, broken())
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["m.parquet"]


@pytest.mark.parametrize("name", ["m.csv", "m", "s3://bucket/m.parquet"])
def test_a_path_that_can_be_no_manifest_is_refused(tmp_path, name):
    with pytest.raises(InputError):
        write_manifest(name if "://" in name else tmp_path / name, TABLE.schema, [TABLE])


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="cannot be written"):
        write_manifest(tmp_path / "file" / "m.parquet", TABLE.schema, [TABLE])

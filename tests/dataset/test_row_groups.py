"""Parquet settings, row group bounds, and user columns looked up by row."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.dataset import row_groups
from sdbatch.dataset.row_groups import RowGroupFile, UserColumns
from sdbatch.dataset.schema import SPOOL_SCHEMA, dataset_schema
from sdbatch.errors import SdbatchError, StorageError

TABLE = pa.table({"row_index": [7, 3, 5], "name": pa.array(["g", "c", "e"]).dictionary_encode()})
NAME = pa.field("name", pa.string())


def values(index):
    return {"key": f"k{index}", "format": "png", "row_index": index, "image_index": 0}


def test_user_columns_are_found_by_row_and_may_repeat():
    user = UserColumns(TABLE, [NAME])

    assert user.take([3, 3, 7])["name"].to_pylist() == ["c", "c", "g"]
    assert user.take([3])["name"].type == pa.string()


@pytest.mark.parametrize("row", [0, 4, 8])
def test_a_row_without_manifest_columns_is_no_silent_null(row):
    with pytest.raises(SdbatchError, match=f"row {row} is not among"):
        UserColumns(TABLE, [NAME]).take([3, row])


def test_a_column_that_cannot_become_what_the_plan_froze_is_refused():
    with pytest.raises(SdbatchError, match=r"manifest holds dictionary.* the plan froze int64"):
        UserColumns(TABLE, [pa.field("name", pa.int64())])


def test_a_column_that_is_missing_is_refused():
    with pytest.raises(SdbatchError, match="column 'other': not among"):
        UserColumns(TABLE, [pa.field("other", pa.string())])


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.struct([("x", pa.int8())]))], ids=str)
def test_a_column_of_nothing_but_nulls_takes_whatever_type_was_frozen(kind):
    table = pa.table({"row_index": [0], "name": pa.nulls(1)})

    assert UserColumns(table, [pa.field("name", kind)]).take([0])["name"].type == kind


def test_columns_of_every_odd_type_become_what_the_schema_froze():
    table = pa.table(
        {
            "row_index": [0, 1],
            "nothing": pa.nulls(2),
            "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "views": pa.array([["x"], None], pa.list_view(pa.string_view())),
            "words": pa.ListArray.from_arrays([0, 1, 2], pa.array(["x", "y"]).dictionary_encode()),
            "day": pa.array([86_400_000, None], pa.date64()),
        }
    )
    fields = list(dataset_schema([f for f in table.schema if f.name != "row_index"]))[-5:]
    taken = UserColumns(table, fields).take([1, 0])

    assert [taken[f.name].type for f in fields] == [f.type for f in fields]
    assert taken["nothing"].to_pylist() == [None, None]
    assert taken["map"].to_pylist() == [None, [{"key": "a", "value": 1}]]
    assert taken["words"].to_pylist() == [["y"], ["x"]]


def test_a_row_group_ends_before_it_grows_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "GROUP_BYTES", 1000)
    with RowGroupFile(tmp_path / "x.parquet", SPOOL_SCHEMA) as file:
        for index, size in enumerate([400, 400, 400, 5000, 10]):
            file.add(values(index), bytes(size))
        done = file.finish()

    footer = pq.read_metadata(done.path)
    assert [footer.row_group(k).num_rows for k in range(footer.num_row_groups)] == [2, 1, 1, 1]


def test_rows_without_pictures_are_grouped_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "GROUP_ROWS", 3)
    with RowGroupFile(tmp_path / "x.parquet", SPOOL_SCHEMA) as file:
        for index in range(7):
            file.add(values(index), None)
        done = file.finish()

    assert (done.num_rows, pq.read_metadata(done.path).num_row_groups) == (7, 3)
    assert pq.read_table(done.path)["image"].null_count == 7


def test_picture_bytes_are_stored_plain_and_all_else_compressed(tmp_path):
    nested = pa.field("nested", pa.struct([("a.b", pa.list_(pa.string()))]))
    user = UserColumns(
        pa.table({"row_index": [0], "nested": pa.array([None], nested.type)}), [nested]
    )
    with RowGroupFile(tmp_path / "x.parquet", dataset_schema([nested]), user) as file:
        file.add(values(0), b"picture")
        file.finish()

    group = pq.read_metadata(tmp_path / "x.parquet").row_group(0)
    columns = [group.column(k) for k in range(group.num_columns)]
    image = next(column for column in columns if column.path_in_schema == "image.bytes")
    assert (image.compression, image.is_stats_set, image.has_dictionary_page) == (
        "UNCOMPRESSED",
        False,
        False,
    )
    assert {column.compression for column in columns if column is not image} == {"ZSTD"}
    assert all(column.has_offset_index for column in columns)


def test_the_footer_says_whose_file_it_is_and_how_it_is_chunked(tmp_path):
    with RowGroupFile(tmp_path / "x.parquet", SPOOL_SCHEMA, footer={"run_id": "main"}) as file:
        file.finish()

    notes = pq.read_schema(tmp_path / "x.parquet").metadata
    assert json.loads(notes[b"sdbatch"]) == {"run_id": "main"}
    assert json.loads(notes[b"content_defined_chunking"])["min_chunk_size"] == 262_144


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match=r"no/x\.parquet: "):
        RowGroupFile(tmp_path / "no" / "x.parquet", SPOOL_SCHEMA)

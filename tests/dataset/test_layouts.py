"""A shard's files hold every picture once, in order, however it was drawn."""

import hashlib
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from sdbatch.dataset.images import decode
from sdbatch.dataset.schema import dataset_schema, errors_schema, metadata_schema
from tests.dataset.samples import pixels, write

IMAGES = [(0, 0), (0, 1), (3, 0), (12, 0), (12, 1), (12, 2)]
FAILED = [(3, 1), (7, 0)]


def ids(path):
    table = pq.read_table(path, columns=["row_index", "image_index"])
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


@settings(max_examples=15, deadline=None)
@given(st.permutations(IMAGES), st.permutations(FAILED))
def test_the_order_of_arrival_leaves_no_trace(images, failed):
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        shuffled = write(Path(here), images, failed)
        sorted_ = write(Path(there), IMAGES, FAILED)

        assert ids(shuffled.data.path) == ids(shuffled.metadata.path) == IMAGES
        assert ids(shuffled.errors.path) == FAILED
        assert shuffled.images_sha256 == sorted_.images_sha256
        assert shuffled.data.sha256 == sorted_.data.sha256


def test_every_picture_stands_in_exactly_one_file_and_the_counts_say_so(tmp_path):
    files = write(tmp_path, IMAGES, FAILED)

    assert (files.success, files.failed, files.filtered) == (6, 2, 0)
    assert (files.data.num_rows, files.metadata.num_rows, files.errors.num_rows) == (6, 6, 2)
    assert files.error_counts == {"NonFiniteError": 2}


def test_each_row_keeps_its_own_pixels(tmp_path):
    files = write(tmp_path, IMAGES)

    for row in pq.read_table(files.data.path).to_pylist():
        expected = pixels(row["row_index"], row["image_index"])
        assert (decode(row["image"]["bytes"]) == expected).all()
        assert row["image"]["path"] == f"{row['key']}.png"
        assert row["pixel_sha256"] == hashlib.sha256(expected.tobytes()).hexdigest()
        assert row["sha256"] == hashlib.sha256(row["image"]["bytes"]).hexdigest()
        assert row["image_bytes"] == len(row["image"]["bytes"])


def test_the_hash_of_a_shard_tells_a_failure_from_a_picture(tmp_path):
    drawn = write(tmp_path / "a", [(0, 0), (1, 0)])
    failed = write(tmp_path / "b", [(0, 0)], [(1, 0)])

    lines = "000000000_000 success\n000000001_000 success\n"
    assert drawn.images_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert failed.images_sha256 != drawn.images_sha256


def test_files_are_as_they_are_described(tmp_path):
    files = write(tmp_path, IMAGES, FAILED)

    for file in (files.data, files.metadata, files.errors):
        data = file.path.read_bytes()
        assert file.size_bytes == len(data)
        assert file.sha256 == hashlib.sha256(data).hexdigest()


def test_without_failures_there_is_no_errors_file(tmp_path):
    files = write(tmp_path, IMAGES)

    assert files.errors is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.parquet", "metadata.parquet"]


def test_an_empty_shard_has_its_files_with_schema_and_no_rows(tmp_path):
    fields = [pa.field("wanted", pa.string())]
    user = pa.table({"row_index": pa.array([], pa.int64()), "wanted": pa.array([], pa.string())})
    files = write(tmp_path, [], user=user, fields=fields)

    assert (files.data.num_rows, files.metadata.num_rows, files.errors) == (0, 0, None)
    assert pq.read_schema(files.data.path).equals(dataset_schema(fields))


def test_a_shard_of_nothing_but_failures_has_an_empty_data_file(tmp_path):
    files = write(tmp_path, [], FAILED)

    assert (files.data.num_rows, files.errors.num_rows) == (0, 2)


def test_the_three_files_have_the_frozen_schema_with_features(tmp_path):
    files = write(tmp_path, IMAGES, FAILED)

    schema = dataset_schema([])
    for file, expected in [
        (files.data, schema),
        (files.metadata, metadata_schema(schema)),
        (files.errors, errors_schema(schema)),
    ]:
        found = pq.read_schema(file.path)
        assert found.equals(expected)
        assert found.metadata[b"huggingface"] == expected.metadata[b"huggingface"]


def test_a_lone_file_says_which_plan_and_run_it_belongs_to(tmp_path):
    files = write(tmp_path, IMAGES)

    footer = json.loads(pq.read_schema(files.data.path).metadata[b"sdbatch"])
    assert footer == {"version": "1", "run_id": "main", "plan_id": "plan1234"}


def test_user_columns_follow_their_row_into_data_and_errors(tmp_path):
    kind = pa.struct([("n", pa.int64())])
    user = pa.table(
        {
            "prompt": ["ignored"] * 4,
            "row_index": [12, 7, 3, 0],
            "nested": pa.array([{"n": 12}, {"n": 7}, {"n": 3}, None], kind),
        }
    )
    files = write(tmp_path, IMAGES, FAILED, user, [pa.field("nested", kind)])

    for file in (files.data, files.metadata, files.errors):
        for row in pq.read_table(file.path).to_pylist():
            assert row["nested"] == ({"n": row["row_index"]} if row["row_index"] else None)
            assert row["prompt"] == f"prompt {row['row_index']}"

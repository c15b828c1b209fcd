"""A dataset opens in the libraries people use, with no code of ours."""

import glob

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from sdbatch.dataset.images import decode
from tests.dataset.samples import pixels, place, write

pytestmark = pytest.mark.readers

FIELDS = [
    pa.field("wanted", pa.string()),
    pa.field("nested", pa.list_(pa.struct([("x", pa.int64())]))),
]
NUM_ROWS = 9
SHARDS = [[(0, 0), (1, 0), (1, 1)], [], [(3, 0), (4, 0)], [(5, 0), (6, 0), (7, 0), (8, 0)]]


def user_table(images):
    """In shard 0 every manifest column is null, and of null type, as a CSV would give it."""
    rows = sorted({index for index, _ in images})
    if not rows or rows[0] == 0:
        return pa.table(
            {
                "row_index": pa.array(rows, pa.int64()),
                "wanted": pa.nulls(len(rows)),
                "nested": pa.nulls(len(rows), FIELDS[1].type),
            }
        )
    nested = pa.array([[{"x": index}] for index in rows], FIELDS[1].type)
    words = [f"w{index}" for index in rows]
    return pa.table({"row_index": rows, "wanted": words, "nested": nested})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four shards, one of them empty, one failure, and the run's own state folder."""
    root = tmp_path_factory.mktemp("dataset")
    for shard_id, images in enumerate(SHARDS):
        failed = [(2, 0)] if shard_id == 2 else []
        user = user_table(images + failed)
        files = write(root / "tmp" / str(shard_id), images, failed, user, FIELDS)
        place(root, files, shard_id, len(SHARDS))
    state = root / "__sdbatch" / "main"
    state.mkdir(parents=True)
    (state / "job.json").write_text("{}")
    pads.write_dataset(pa.table({"other": [1]}), state / "plan", format="parquet")
    for folder in sorted((root / "tmp").rglob("*"), reverse=True):
        folder.rmdir()
    (root / "tmp").rmdir()
    return root


@pytest.fixture
def load(monkeypatch, tmp_path):
    """`datasets.load_dataset` with a cache of its own, offline."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    datasets.disable_progress_bars()

    def load_dataset(path, *args, **options):
        return datasets.load_dataset(str(path), *args, cache_dir=str(tmp_path), **options)

    return load_dataset


EXPECTED = [image_id for shard in SHARDS for image_id in shard]


def test_datasets_finds_pictures_in_manifest_order_without_a_card(root, load):
    import datasets

    found = load(root)

    assert list(found) == ["train"]
    rows = list(found["train"])
    assert [(row["row_index"], row["image_index"]) for row in rows] == EXPECTED
    assert isinstance(found["train"].features["image"], datasets.Image)
    for row in rows:
        assert (row["image"].size, row["image"].format) == ((8, 4), "PNG")
        assert row["image"].getpixel((0, 0)) == (row["row_index"], row["image_index"], 7)


def test_datasets_streams_the_same_rows(root, load):
    stream = load(root, split="train", streaming=True)

    assert [(row["row_index"], row["image_index"]) for row in stream] == EXPECTED
    assert next(iter(stream))["image"].size == (8, 4)


def test_datasets_reads_chosen_columns(root, load):
    found = load(root, split="train", columns=["key", "wanted"])

    assert found.column_names == ["key", "wanted"]
    assert len(found) == len(EXPECTED)


def test_a_column_that_is_null_in_the_first_shard_keeps_its_type_everywhere(root, load):
    found = load(root, split="train").to_list()

    wanted = {row["row_index"]: row["wanted"] for row in found}
    assert wanted == {index: f"w{index}" if index > 2 else None for index, _ in EXPECTED}
    assert found[-1]["nested"] == [{"x": 8}]


def test_duckdb_counts_exactly_the_pictures(root):
    import duckdb

    sql = f"""
        select count(*), count(distinct key), sum(octet_length(image.bytes)) = sum(image_bytes)
        from '{root}/data/*.parquet'
    """
    assert duckdb.sql(sql).fetchall() == [(len(EXPECTED), len(EXPECTED), True)]


def test_duckdb_counts_the_failures(root):
    import duckdb

    sql = f"select row_index, error_type, prompt from '{root}/errors/*.parquet'"
    assert duckdb.sql(sql).fetchall() == [(2, "NonFiniteError", "prompt 2")]


def test_pandas_reads_the_folder_and_the_bytes_decode(root):
    import pandas

    frame = pandas.read_parquet(root / "data")

    assert list(zip(frame.row_index, frame.image_index, strict=True)) == EXPECTED
    assert (decode(frame.image.iloc[4]["bytes"]) == pixels(4)).all()


def test_pyarrow_reads_metadata_and_pushes_filters_down(root):
    table = pads.dataset(root / "metadata").to_table(filter=pads.field("row_index") > 4)

    assert table["row_index"].to_pylist() == [5, 6, 7, 8]
    assert "image" not in table.column_names


def test_every_shard_has_a_data_file(root):
    assert len(glob.glob(f"{root}/data/*.parquet")) == len(SHARDS)

import pyarrow as pa
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.opening import Shown, open_any
from sdbatch.manifest.reader import iter_tables, read_rows


@pytest.fixture
def opened(write, tmp_path):
    def _opened(columns, **shown):
        return open_any(write(columns), lambda: tmp_path, None, Shown(**shown)).manifest

    return _opened


def test_rows_come_under_canonical_names_and_files_stay_as_they_are(opened):
    manifest = opened({"Caption": ["a"], "size": ["64x32"], "mood": ["x"]})

    wanted = [{"prompt": "a", "width": 64, "height": 32, "mood": "x"}]
    assert read_rows(manifest.ref, 0, 1).to_pylist() == wanted
    assert pa.concat_tables(iter_tables(manifest.ref)).to_pylist() == wanted
    assert manifest.schema.names == ["prompt", "width", "height", "mood"]
    assert manifest.file_schema.names == ["Caption", "size", "mood"]


def test_some_columns_are_read_in_the_order_asked_for(opened):
    manifest = opened({"steps": [5, 6], "text": ["a", "b"], "n": [1, 2]})

    asked = ["prompt", "num_inference_steps"]
    assert read_rows(manifest.ref, 1, 2, asked).to_pylist() == [
        {"prompt": "b", "num_inference_steps": 6}
    ]
    assert next(iter_tables(manifest.ref, asked)).column_names == asked


def test_source_columns_are_kept_only_on_demand(opened):
    columns = {"prompt": ["a"], "cfg": [3.0], "mood": ["x"]}

    assert "cfg" not in opened(columns).schema.names
    kept = opened(columns, keep_source_columns=True)
    assert read_rows(kept.ref, 0, 1).to_pylist() == [
        {"prompt": "a", "guidance_scale": 3.0, "cfg": 3.0, "mood": "x"}
    ]


def test_a_prefix_begins_the_names_of_columns_that_pass_through_alone(opened):
    manifest = opened({"prompt": ["a"], "sha256": ["x"]}, prefix="in_")

    assert manifest.schema.names == ["prompt", "in_sha256"]


def test_a_prefix_that_makes_two_of_a_name_is_refused(opened):
    with pytest.raises(ManifestError, match="choose another --passthrough-prefix"):
        opened({"prompt": ["a"], "skip": [1], "clip_skip": [0]}, prefix="clip_")


@pytest.mark.parametrize("value", ["big", "64", "64x", "-1x5", "64x64x64"])
def test_a_size_that_is_none_is_named_with_its_row(opened, value):
    manifest = opened({"prompt": ["a", "b", "c"], "size": ["8x8", None, value]})

    with pytest.raises(ManifestError, match=f"row 2, column 'size': '{value}': is no size"):
        read_rows(manifest.ref, 0, 3)


def test_sizes_of_nothing_are_left_open(opened):
    manifest = opened({"prompt": ["a", "b"], "size": [" ", None]})

    assert read_rows(manifest.ref, 0, 2, ["width"]).to_pylist() == [{"width": None}] * 2


def test_a1111_counts_clip_skip_from_one(opened):
    manifest = opened({"prompt": list("abc"), "Clip skip": [1, 2, None]})

    assert read_rows(manifest.ref, 0, 3, ["clip_skip"])["clip_skip"].to_pylist() == [0, 1, None]

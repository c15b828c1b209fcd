from collections import Counter
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.errors import ManifestError
from sdbatch.manifest import shape as shape_module
from sdbatch.manifest.reader import open_manifest
from sdbatch.manifest.shape import RowShape, manifest_shape
from sdbatch.records import RowDefaults

DEFAULTS = RowDefaults("", 64, 32, 10, 7.5, "DDIMScheduler", "", 2)


def shape_of(path, limit=None):
    return manifest_shape(open_manifest(path), limit, DEFAULTS)


def test_a_manifest_of_prompts_alone_is_not_read(write, monkeypatch):
    monkeypatch.setattr(shape_module, "iter_tables", None)

    shape = shape_of(write({"prompt": ["a", "b", "c"]}))

    assert (shape.num_rows, shape.num_images) == (3, 6)
    assert shape.sizes == ((64, 32),)
    assert shape.work_per_image == 20
    assert shape.images_by_size() == {(64, 32): 6}


def test_columns_that_say_the_same_everywhere_leave_no_arrays(write):
    shape = shape_of(write({"prompt": ["a", "b"], "width": [64, None], "guidance_scale": [9, 2]}))

    assert shape.size_index is shape.images is shape.work is None


def test_rows_that_differ_are_kept_row_by_row(write):
    shape = shape_of(
        write(
            {
                "prompt": ["a", "b", "c"],
                "width": [128, None, 128],
                "num_inference_steps": [5, None, 7],
                "guidance_scale": pa.array([1.0, None, 3.0]),
                "num_images_per_prompt": [1, None, 3],
            }
        )
    )

    assert shape.sizes == ((128, 32), (64, 32))
    assert shape.size_index.tolist() == [0, 1, 0]
    assert shape.images.tolist() == [1, 2, 3]
    assert shape.work.tolist() == [5, 20, 14]
    assert shape.images_by_size() == {(128, 32): 4, (64, 32): 2}


def test_rows_past_the_limit_do_not_count(write):
    shape = shape_of(write({"prompt": ["a", "b", "c"], "width": [64, 64, 128]}), limit=2)

    assert (shape.num_rows, shape.sizes) == (2, ((64, 32),))


@pytest.mark.parametrize(
    ("column", "value"), [("width", -8), ("height", 0), ("num_images_per_prompt", 1001)]
)
def test_what_would_break_the_cutting_is_refused_even_unchecked(write, column, value):
    with pytest.raises(ManifestError, match=f"row 1, column '{column}': {value}: must be"):
        shape_of(write({"prompt": ["a", "b"], column: [8, value]}))


def test_a_width_that_is_no_number_is_shown_as_it_stands(write):
    path = write({"prompt": ["a", "b"], "width": [64.0, float("nan")]})

    with pytest.raises(ManifestError, match="row 1, column 'width': nan: must be a whole number"):
        shape_of(path)


@given(
    st.lists(
        st.tuples(st.sampled_from([8, 16]), st.integers(1, 40), st.integers(1, 3)), min_size=1
    ),
    st.sampled_from([1, 1 << 24]),
)
def test_pictures_of_each_kind_add_up(rows, counted):
    sizes = list(dict.fromkeys((width, 8) for width, _, _ in rows))
    shape = RowShape(
        len(rows),
        tuple(sizes),
        np.array([sizes.index((width, 8)) for width, _, _ in rows], np.int32),
        np.array([images for _, _, images in rows], np.int16),
        1,
        np.array([work for _, work, _ in rows], np.int32),
        1,
    )
    expected = Counter()
    for width, work, images in rows:
        expected[(width, 8), work] += images

    with mock.patch("sdbatch.manifest.shape._COUNTED", counted):
        assert shape.images_by_work() == expected

"""Class labels and other columns that settings decide: refused or frozen at plan time."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.dataset.schema import class_names
from sdbatch.engine import output_schema
from sdbatch.errors import InputError, JobError
from tests.engine.runs import INLINE


def render(out, column, **options):
    table = pa.table({"prompt": [f"p{i}" for i in range(len(column))], "kind": column})
    return api.render(table, out, model="fake", class_label="kind", **INLINE, **options)


def stored(out):
    table = pq.read_table(next((out / "metadata").iterdir()))
    return class_names(table.schema.field("kind")), table["kind"].to_pylist()


def test_texts_become_numbers_in_their_order(tmp_path):
    render(tmp_path / "out", pa.array(["dog", "cat", None, "dog"]))

    assert stored(tmp_path / "out") == (("cat", "dog"), [1, 0, None, 1])


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int64()])
def test_whole_numbers_keep_their_value(tmp_path, kind):
    render(tmp_path / "out", pa.array([3, 0, 1], kind))

    assert stored(tmp_path / "out") == (("0", "1", "2", "3"), [3, 0, 1])


def test_a_dictionary_of_texts_is_texts(tmp_path):
    render(tmp_path / "out", pa.array(["b", "a"]).dictionary_encode())

    assert stored(tmp_path / "out") == (("a", "b"), [1, 0])


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([0.5, 1.0]), "holds double, classes are texts or whole numbers"),
        (pa.array([-1, 3]), "holds -1 to 3, numbers of classes lie in 0 to 9,999"),
        (pa.array([0, 10_000]), "holds 0 to 10,000"),
    ],
)
def test_values_that_are_no_classes_are_refused_before_anything_is_written(tmp_path, column, said):
    with pytest.raises(InputError, match=said):
        render(tmp_path / "out", column)
    assert not (tmp_path / "out").exists()


def test_too_many_classes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(output_schema, "MAX_CLASSES", 3)

    with pytest.raises(InputError, match="more than 3 different values"):
        render(tmp_path / "out", pa.array([f"class {i}" for i in range(9)]))


def test_an_unknown_column_is_refused_with_the_nearest(tmp_path):
    table = pa.table({"prompt": ["a"], "kind": ["x"]})

    with pytest.raises(InputError, match=r"--class-label kinds.*did you mean 'kind'"):
        api.render(table, tmp_path / "out", model="fake", class_label="kinds", **INLINE)


def test_a_run_goes_on_with_the_classes_that_it_began_with(tmp_path):
    column = pa.array(["dog", "cat"])
    render(tmp_path / "out", column)

    assert render(tmp_path / "out", column).exit_code == 0


def test_a_later_run_may_not_bring_new_classes(tmp_path):
    render(tmp_path / "out", pa.array(["dog", "cat"]))
    table = pa.table({"prompt": ["x"], "kind": ["wolf"]})

    with pytest.raises(InputError, match="wolf"):
        api.render(table, tmp_path / "out", append="20261122", model="fake", **INLINE)


@pytest.mark.parametrize("picture", ["avif", "jxl"])
def test_pictures_that_no_reader_finds_in_a_folder_are_refused(tmp_path, picture):
    table = pa.table({"prompt": ["a"]})
    options = {"model": "fake", "image_format": picture, **INLINE}

    with pytest.raises(JobError, match=f"do not know {picture}, take png, jpeg, webp"):
        api.render(table, tmp_path / "out", format="files", **options)


def test_a_plan_counts_loose_files(tmp_path):
    table = pa.table({"prompt": [f"p{i}" for i in range(100)]})
    options = {"model": "fake", "shard_size": 50, **INLINE}
    parquet = api.plan(table, tmp_path / "a", **options)
    loose = api.plan(table, tmp_path / "b", format="files", captions="txt", **options)

    assert loose.files - parquet.files == 200

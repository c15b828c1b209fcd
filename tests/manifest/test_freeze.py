import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.freeze import (
    as_table,
    content_identity,
    needs_freezing,
    prompts_table,
    write_frozen,
)
from sdbatch.manifest.reader import open_manifest, read_rows

ROWS = [{"prompt": "a", "seed": 1, "mood": "x"}, {"prompt": "b", "seed": 2, "mood": "y"}]


def test_lines_become_prompts_and_blank_ones_do_not():
    table = prompts_table(["a fox\n", "\n", "  ", "ein Bär\r\n"])

    assert table.to_pylist() == [{"prompt": "a fox"}, {"prompt": "ein Bär"}]


def test_no_prompt_at_all_is_refused():
    with pytest.raises(ManifestError, match="give at least one"):
        prompts_table(["\n"], "standard input")
    with pytest.raises(ManifestError, match="prompts: no prompt in it"):
        prompts_table([])


def test_a_prompt_that_is_no_text_is_named():
    with pytest.raises(ManifestError, match="row 1, column 'prompt': int is no prompt"):
        prompts_table(["a", 5])


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ManifestError, match="column 'prompt': line 3 is not UTF-8 text"):
        prompts_table(["a", "", "a \udcff b"])


@pytest.mark.parametrize(
    "source",
    [
        ROWS,
        iter(ROWS),
        pa.Table.from_pylist(ROWS),
        pa.Table.from_pylist(ROWS).to_batches()[0],
        {"prompt": ["a", "b"], "seed": [1, 2], "mood": ["x", "y"]},
    ],
    ids=["dicts", "generator", "arrow", "batch", "columns"],
)
def test_every_table_a_person_may_hold_is_taken(source):
    table = as_table(source)

    assert table.to_pylist() == ROWS


def test_a_pandas_frame_is_taken_without_its_index():
    pandas = pytest.importorskip("pandas")

    table = as_table(pandas.DataFrame(ROWS, index=[7, 9]))

    assert table.to_pylist() == ROWS
    assert table.schema.metadata is None


@pytest.mark.readers
def test_a_hugging_face_dataset_is_taken_with_its_selection():
    datasets = pytest.importorskip("datasets")
    turned = datasets.Dataset.from_list(ROWS[::-1])

    assert as_table(turned).to_pylist() == ROWS[::-1]
    assert as_table(turned.select([1, 0])).to_pylist() == ROWS


def test_rows_may_have_different_keys():
    table = as_table([{"prompt": "a"}, {"prompt": "b", "seed": 3}])

    assert table.to_pylist() == [{"prompt": "a", "seed": None}, {"prompt": "b", "seed": 3}]


def test_a_list_of_texts_is_a_list_of_prompts():
    assert as_table(["a", "b"]).to_pylist() == [{"prompt": "a"}, {"prompt": "b"}]


def test_scheduler_overrides_may_be_dicts():
    table = as_table([{"prompt": "a", "scheduler_config": {"eta": 1.0}}])

    assert table.to_pylist()[0]["scheduler_config"] == '{"eta": 1.0}'


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ([{"prompt": "a", "seed": 1}, {"prompt": "b", "seed": "x"}], "column 'seed': values of"),
        ([{"prompt": "a"}, 5], "row 1: int is no row"),
        ([], "holds no rows"),
        (pa.table({"prompt": []}), "holds no rows"),
        ({"prompt": ["a"], "seed": [1, 2]}, "columns of different lengths"),
        (7, "int is no table"),
        ("a fox", "str is no table"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(source, reason):
    with pytest.raises(ManifestError, match=reason) as caught:
        as_table(source)

    assert "\n" not in str(caught.value)


def test_a_mapping_of_splits_asks_for_one():
    splits = {"train": pa.Table.from_pylist(ROWS), "test": pa.Table.from_pylist(ROWS)}

    with pytest.raises(ManifestError, match="choose a split: it holds train, test"):
        as_table(splits)


@pytest.mark.readers
def test_splits_of_hugging_face_ask_for_one():
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})

    with pytest.raises(ManifestError, match=r"choose a split: .* give for example data\['train'\]"):
        as_table(splits)


def test_columns_of_a_mapping_may_be_series():
    pandas = pytest.importorskip("pandas")

    table = as_table({"prompt": pandas.Series(["a", "b"]), "seed": pa.chunked_array([[1], [2]])})

    assert table.to_pylist() == [{"prompt": "a", "seed": 1}, {"prompt": "b", "seed": 2}]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    whole = pa.table({"prompt": [f"p{n}" for n in range(30)]})
    pieces = pa.concat_tables([whole.slice(0, 11), whole.slice(11)])
    for name, table in (("a", whole), ("b", pieces)):
        write_frozen(table, tmp_path / name, row_group_rows=8)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_manifest_with_large_row_groups_is_rewritten_with_small_ones(write, tmp_path):
    table = pa.table({"prompt": pa.array([f"p{n % 9}" for n in range(140_000)])})
    manifest = open_manifest(write(table, row_group_size=140_000))

    write_frozen(manifest, tmp_path / "frozen.parquet")

    assert needs_freezing(manifest)
    frozen = open_manifest(str(tmp_path / "frozen.parquet"))
    footer = pq.read_metadata(tmp_path / "frozen.parquet")
    groups = [footer.row_group(index).num_rows for index in range(footer.num_row_groups)]
    assert groups == [65536, 65536, 140_000 - 2 * 65536]
    assert read_rows(frozen.ref, 0, 140_000).equals(table)
    assert not needs_freezing(frozen)


def test_several_files_become_one(write, tmp_path):
    write({"prompt": ["a"], "tags": [["x", "y"]]}, "parts/a.parquet")
    write({"prompt": ["b"], "tags": [["z"]]}, "parts/b.parquet")

    write_frozen(open_manifest(str(tmp_path / "parts")), tmp_path / "one.parquet")

    assert pq.read_table(tmp_path / "one.parquet").to_pylist() == [
        {"prompt": "a", "tags": ["x", "y"]},
        {"prompt": "b", "tags": ["z"]},
    ]


def test_content_identity_is_of_values_not_of_chunks():
    whole = pa.table({"prompt": ["a", "bc", None], "n": [1, None, 3], "l": [[1], [2], []]})
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])

    assert content_identity(pieces) == content_identity(whole)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": ["ab", "c"]},
        {"prompt": ["a", None]},
        {"prompt": ["a", "bc", ""]},
        {"prompts": ["a", "bc"]},
        {"prompt": ["a", "bc"], "seed": [1, 2]},
    ],
)
def test_other_values_have_another_content_identity(other):
    assert content_identity(pa.table(other)) != content_identity(pa.table({"prompt": ["a", "bc"]}))

import os
import shutil

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch.errors import InputError, ManifestError, StorageError, StoreAccessError
from sdbatch.manifest import reader
from sdbatch.manifest.reader import demand_unchanged, iter_tables, open_manifest, read_rows


def prompts(count, start=0):
    return {"prompt": [f"p{index}" for index in range(start, start + count)]}


def test_a_file_is_opened_by_its_footer(write):
    manifest = open_manifest(write(prompts(10), row_group_size=4))

    assert manifest.ref.num_rows == 10
    assert manifest.schema.names == ["prompt"]
    assert manifest.max_row_group_rows == 4
    assert os.path.isabs(manifest.ref.files[0].url)


@pytest.mark.parametrize("name", ["parts", "parts/*.parquet", "parts/**/*.parquet"])
def test_a_folder_and_a_glob_are_read_in_name_order(write, tmp_path, name):
    write(prompts(2, 2), "parts/b.parquet")
    write(prompts(2), "parts/a.parquet")
    (tmp_path / "parts/notes.txt").write_text("not a manifest")

    manifest = open_manifest(str(tmp_path / name))

    rows = read_rows(manifest.ref, 0, 4)
    assert rows.column("prompt").to_pylist() == ["p0", "p1", "p2", "p3"]


def test_an_object_store_is_read_too(write):
    url = "memory://reader/rows.parquet"
    with open(write(prompts(5)), "rb") as source:
        fsspec.filesystem("memory").pipe("/reader/rows.parquet", source.read())

    manifest = open_manifest(url)

    assert read_rows(manifest.ref, 1, 3).to_pylist() == [{"prompt": "p1"}, {"prompt": "p2"}]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(first=st.integers(0, 20), count=st.integers(1, 20), group=st.integers(1, 7))
def test_any_range_is_read_across_row_groups_and_files(write, tmp_path, first, count, group):
    write(prompts(8), "range/a.parquet", row_group_size=group)
    write(prompts(13, 8), "range/b.parquet", row_group_size=group)
    manifest = open_manifest(str(tmp_path / "range"))

    rows = read_rows(manifest.ref, first, first + count)

    wanted = [f"p{index}" for index in range(first, min(first + count, 21))]
    assert rows.column("prompt").to_pylist() == wanted


def test_batches_hold_all_rows_in_order(write):
    manifest = open_manifest(write(prompts(10), row_group_size=4))

    tables = list(iter_tables(manifest.ref, batch_rows=3))

    assert pa.concat_tables(tables).column(0).to_pylist() == prompts(10)["prompt"]
    assert max(table.num_rows for table in tables) <= 3


def test_columns_come_in_the_order_asked_for(write):
    manifest = open_manifest(write({"a": [1], "prompt": ["x"], "b": [2]}))

    assert read_rows(manifest.ref, 0, 1, ["b", "prompt"]).column_names == ["b", "prompt"]
    assert [t.column_names for t in iter_tables(manifest.ref, ["b", "prompt"])] == [["b", "prompt"]]


def test_files_may_differ_in_column_order(write, tmp_path):
    write({"prompt": ["x"], "seed": [1]}, "order/a.parquet")
    write({"seed": [2], "prompt": ["y"]}, "order/b.parquet")

    manifest = open_manifest(str(tmp_path / "order"))

    wanted = [{"prompt": "x", "seed": 1}, {"prompt": "y", "seed": 2}]
    assert read_rows(manifest.ref, 0, 2).to_pylist() == wanted
    assert pa.concat_tables(iter_tables(manifest.ref)).to_pylist() == wanted


def test_files_with_other_columns_are_refused(write, tmp_path):
    write({"prompt": ["x"], "seed": [1]}, "mixed/a.parquet")
    write({"prompt": ["y"], "seed": ["1"]}, "mixed/b.parquet")

    with pytest.raises(ManifestError, match=r"column 'seed': string in .*b.parquet but int64 in"):
        open_manifest(str(tmp_path / "mixed"))


def test_a_moved_manifest_keeps_its_identity(write, tmp_path, monkeypatch):
    path = write(prompts(3), "old/rows.parquet")
    before = open_manifest(path)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")

    assert open_manifest("rows.parquet").ref.identity == before.ref.identity
    assert open_manifest("./rows.parquet").ref.identity == before.ref.identity


def test_other_rows_are_another_manifest(write):
    one = open_manifest(write(prompts(3))).ref.identity
    two = open_manifest(write(prompts(3, 1))).ref.identity

    assert one != two


def test_a_file_that_changed_since_the_plan_is_refused(write):
    manifest = open_manifest(write(prompts(3)))
    write(prompts(3, 5))

    with pytest.raises(ManifestError, match="changed since the plan was made"):
        read_rows(manifest.ref, 0, 1)
    with pytest.raises(ManifestError, match="changed since the plan was made"):
        list(iter_tables(manifest.ref))


def test_a_file_that_is_gone_since_the_plan_is_refused(write):
    path = write(prompts(3))
    manifest = open_manifest(path)
    os.remove(path)

    with pytest.raises(ManifestError, match="no such file"):
        read_rows(manifest.ref, 0, 1)


def test_rows_past_the_end_are_refused(write):
    manifest = open_manifest(write(prompts(3)))

    with pytest.raises(ManifestError, match="the manifest has 3 rows"):
        read_rows(manifest.ref, 3, 5)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nowhere.parquet", "no such file or folder"),
        ("memory://nowhere/rows.parquet", "no such file or folder"),
        ("nosuch://bucket/rows.parquet", "Protocol not known"),
        ("zip://rows.parquet::a.zip", "chained URLs are not read"),
        ("empty-*.parquet", "holds no .parquet files"),
    ],
)
def test_what_cannot_be_opened_is_one_line(url, reason):
    with pytest.raises(ManifestError, match=reason) as caught:
        open_manifest(url)

    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(url)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"prompt\na fox\n" * 9, b"PAR1" + b"\0" * 99])
def test_what_is_no_parquet_is_one_line(tmp_path, content):
    path = tmp_path / "rows.parquet"
    path.write_bytes(content)

    with pytest.raises(ManifestError, match="not a Parquet file") as caught:
        open_manifest(str(path))

    assert str(caught.value).startswith(str(path))


def test_a_broken_footer_is_one_line(write):
    path = write(prompts(50))
    with open(path, "r+b") as file:
        file.seek(-60, os.SEEK_END)
        file.write(b"\xff" * 40)

    with pytest.raises(ManifestError, match="damaged Parquet") as caught:
        open_manifest(path)

    assert "\n" not in str(caught.value)


def test_broken_pages_are_one_line(write):
    path = write(prompts(5000), compression="zstd")
    with open(path, "r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 4000)
    manifest = open_manifest(path)

    with pytest.raises(ManifestError, match="damaged Parquet"):
        read_rows(manifest.ref, 0, 5000)
    with pytest.raises(ManifestError, match="damaged Parquet"):
        list(iter_tables(manifest.ref))


def test_a_manifest_without_rows_is_refused(write):
    with pytest.raises(ManifestError, match="holds no rows"):
        open_manifest(write(pa.table({"prompt": pa.array([], pa.string())})))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ManifestError, match=r"holds no .parquet files"):
        open_manifest(str(tmp_path))


def test_footers_longer_than_the_first_read_are_read_whole(write):
    table = {"prompt": ["x"] * 400, **{f"c{n}": list(range(400)) for n in range(40)}}
    path = write(table, row_group_size=2)

    assert pq.read_metadata(path).serialized_size > 65536
    assert open_manifest(path).ref.num_rows == 400


def test_only_files_with_a_wanted_row_must_be_unchanged(tmp_path):
    for number in range(3):
        pq.write_table(pa.table({"prompt": [f"{number}"] * 10}), tmp_path / f"{number}.parquet")
    ref = open_manifest(str(tmp_path)).ref
    demand_unchanged(ref, [(0, 30)])
    (tmp_path / "1.parquet").unlink()

    demand_unchanged(ref, [(0, 10), (20, 25)])
    with pytest.raises(ManifestError, match="no such file"):
        demand_unchanged(ref, [(9, 11)])
    pq.write_table(pa.table({"prompt": ["other"] * 10}), tmp_path / "1.parquet")
    with pytest.raises(ManifestError, match="changed since the plan was made"):
        demand_unchanged(ref, [(12, 13)])


class ParamValidationError(Exception):
    """Like that of a client of stores: no `OSError`."""


class NoCredentialsError(Exception):
    """Likewise."""


class StrangeError(Exception):
    """Likewise."""


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ParamValidationError, ManifestError),
        (NoCredentialsError, StoreAccessError),
        (StrangeError, StorageError),
    ],
)
def test_what_clients_of_stores_raise_is_told_in_our_words(monkeypatch, raised, told):
    def refuse(*_args, **_how):
        raise raised("s3://k:a/K7MDENG@b\nis odd")

    monkeypatch.setattr(reader, "file_system", refuse)
    with pytest.raises(told, match=r"x\.parquet: cannot be read") as caught:
        open_manifest("s3://bucket/x.parquet")

    assert type(caught.value) is told
    assert "K7MDENG" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_url_with_a_secret_is_refused_before_it_is_opened(monkeypatch):
    monkeypatch.setattr(reader, "file_system", lambda *_args, **_how: pytest.fail("opened"))

    with pytest.raises(InputError, match="would be stored with the job") as caught:
        open_manifest("simplecache::s3://key:a/K7MDENG@b/x.parquet")
    assert "K7MDENG" not in str(caught.value)

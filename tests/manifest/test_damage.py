"""Manifests with damaged bytes are a table, faults of rows, or one clear error: never more."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch.errors import SdbatchError
from sdbatch.manifest.checks import check_rows
from sdbatch.manifest.opening import open_any
from sdbatch.manifest.reader import iter_tables
from sdbatch.manifest.shape import manifest_shape
from tests.manifest.damage import CORPUS, damaged, in_time
from tests.manifest.test_unread import USUAL

FILES = sorted(path for path in CORPUS.iterdir() if path.is_file())


def read(path, folder, limits):
    """Everything that planning does with a manifest; the error's words where there is one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        manifest = open_any(str(path), lambda: folder).manifest
        found = check_rows(manifest, limits=limits)
        said = [str(problem) for problem in found.problems]
        if not found.total:
            table = pa.concat_tables(iter_tables(manifest.ref))
            assert table.num_rows == found.num_rows == manifest.ref.num_rows > 0
            assert manifest_shape(manifest, None, USUAL).num_rows == found.num_rows
    except SdbatchError as error:
        said = [str(error)]
    assert all("\n" not in line and "Traceback" not in line for line in said), said
    return said


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_corpus_is_sound(path, tmp_path, limits):
    assert read(path, tmp_path / "frozen", limits) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(data=st.data())
def test_damaged_bytes_are_a_table_or_clear_words(path, tmp_path, limits, data):
    changed = tmp_path / path.name
    changed.write_bytes(data.draw(damaged(path.read_bytes())))
    with in_time():
        read(changed, tmp_path / "frozen", limits)


HUGE = "x" * (1 << 20)
CASES = {
    "empty.csv": (b"", "holds no rows"),
    "empty.jsonl": (b"\n \n", "holds no rows"),
    "empty.json": (b"", "is no JSON"),
    "nothing.json": (b"[]", "holds no rows"),
    "empty.parquet": (b"", "not a Parquet file"),
    "empty.csv.gz": (b"", ""),
    "empty.jsonl.zst": (b"", ""),
    "twice.csv": (b"prompt,seed,seed\na,1,2\n", "column 'seed': stands twice"),
    "claims.csv": (b"prompt,steps,num_inference_steps\na,1,2\n", "means 'num_inference_steps'"),
    "steps.csv": (b"prompt,steps\na,1000000000\n", "must be a whole number from 1 to 1000"),
    "steps.jsonl": (b'{"prompt": "a", "steps": 1e9}', "must be a whole number from 1 to 1000"),
    "nan.csv": (b"prompt,cfg\na,nan\n", "nan: must be a finite number"),
    "nan.jsonl": (b'{"prompt": "a", "cfg": NaN}', "nan: must be a finite number"),
    "infinity.jsonl": (b'{"prompt": "a", "cfg": 1e400}', "inf: must be a finite number"),
    "nested.jsonl": (b'{"prompt": "a", "steps": {"a": [1]}}', "must be a whole number"),
    "list.jsonl": (b'{"prompt": "a", "seed": [1]}', "column 'seed': [1]: must be a whole"),
    "surrogate.jsonl": (b'{"prompt": "\\ud800"}', "half of a surrogate pair"),
    "nul.csv": (b"prompt\na\0b\n", "holds a NUL byte"),
    "bom.csv": ("\ufeffprompt,steps\na,x\n".encode(), "column 'steps': 'x'"),
    "huge.csv": (f"prompt,steps\n{HUGE},{HUGE}\n".encode(), "must be a whole number"),
    "huge.jsonl": (f'{{"prompt": "a", "size": "{HUGE}"}}'.encode(), "is no size"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_bad_input_is_said_in_one_short_line(name, tmp_path, limits):
    content, words = CASES[name]
    (tmp_path / name).write_bytes(content)
    with in_time():
        (said,) = read(tmp_path / name, tmp_path / "frozen", limits)

    assert words in said
    assert name in said
    assert len(said) < 400


def test_a_parquet_file_with_two_columns_of_a_name_is_refused(tmp_path, limits):
    table = pa.table([["a"], [1], [2]], names=["prompt", "seed", "seed"])
    pq.write_table(table, tmp_path / "twice.parquet")

    (said,) = read(tmp_path / "twice.parquet", tmp_path / "frozen", limits)
    assert "column 'seed': stands twice" in said


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.bool_()])
def test_a_nested_type_where_a_number_belongs_is_refused(kind, tmp_path, limits):
    table = pa.table({"prompt": ["a"], "steps": pa.nulls(1, kind)})
    pq.write_table(table, tmp_path / "nested.parquet")

    (said,) = read(tmp_path / "nested.parquet", tmp_path / "frozen", limits)
    assert "must hold whole numbers" in said

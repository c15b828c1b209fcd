"""Cells that are no value of their column are faults of their rows, in whatever file."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.errors import InputError, ManifestError, ManifestRowsError
from sdbatch.manifest.checks import check_rows
from sdbatch.manifest.fault_log import FaultLog
from sdbatch.manifest.opening import open_any, reading
from sdbatch.manifest.reader import iter_tables
from sdbatch.manifest.shape import manifest_shape
from sdbatch.records import RowDefaults

USUAL = RowDefaults(
    negative_prompt="",
    width=64,
    height=64,
    num_inference_steps=4,
    guidance_scale=1.0,
    scheduler="DDIMScheduler",
    scheduler_config="",
    num_images_per_prompt=1,
)


@pytest.fixture
def opened(tmp_path):
    def _opened(name, content):
        path = tmp_path / name
        path.write_text(content)
        folder = tmp_path / "frozen"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return open_any(str(path), lambda: folder).manifest

    return _opened


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "prompt,seed\nx,1\n\ny,abc\n", "a.csv, line 4, row 1, column 'seed': 'abc': mu"),
        ("a.csv", "prompt,seed\nx,99999999999999999999\n", "must be a whole number"),
        ("a.csv", "prompt,seed\nx,1e400\n", "column 'seed': '1e400': must be a whole number"),
        ("a.csv", "prompt,cfg\nx,high\n", "column 'cfg': 'high': must be a number"),
        ("a.jsonl", '{"prompt": "a", "steps": true}', "must be a whole number"),
        ("a.jsonl", '{"prompt": "a", "steps": "abc"}', "column 'steps': 'abc': must be a whole"),
        ("a.jsonl", '{"prompt": "a", "seed": 1e400}', "column 'seed': 'inf': must be a whole"),
        ("a.csv", "prompt,size\nx,10x\n", "column 'size': '10x': is no size, write it like 512x"),
        ("a.tsv", "prompt\tresolution\nx\tbig\n", "line 2, row 0, column 'resolution': 'big': is"),
        ("a.csv", "prompt,Clip skip\nx,two\n", "column 'Clip skip': 'two': is no number"),
    ],
)
def test_a_cell_that_is_no_value_is_one_fault_with_its_place(opened, limits, name, content, words):
    manifest = opened(name, content)
    report = check_rows(manifest, limits=limits)

    assert report.total == 1
    assert words in str(report.problems[0])
    assert "\n" not in str(report.problems[0])
    with pytest.raises(ManifestError), reading(str(manifest.ref.name)) as strict:
        list(iter_tables(strict.ref))


def test_the_first_are_shown_and_all_are_counted_and_written(opened, limits, tmp_path):
    cells = [("x" if row % 2 else row, "9z" if row % 3 else "8x8") for row in range(90)]
    rows = "".join(f"a,{steps},{size}\n" for steps, size in cells)
    manifest = opened("a.csv", f"prompt,steps,size\n{rows}")
    with FaultLog(tmp_path / "errors.parquet", manifest.ref, manifest.origin) as log:
        report = check_rows(manifest, limits=limits, log=log)
    written = pq.read_table(tmp_path / "errors.parquet").to_pylist()

    assert report.total == len(written) == 45 + 60 + 1  # and the steps of row 0 are none
    assert len(report.problems) == 20
    assert [problem.row for problem in report.problems] == sorted(
        problem.row for problem in report.problems
    )
    assert {row["file"] for row in written} == {str(tmp_path / "a.csv")}
    assert {(row["column"], row["value"]) for row in written} == {
        ("steps", "'x'"),
        ("size", "'9z'"),
        ("num_inference_steps", "0"),
    }


def test_rows_after_the_limit_do_not_count(opened, limits):
    manifest = opened("a.csv", "prompt,steps\na,1\nb,2\nc,x\n")

    assert check_rows(manifest, limits=limits, limit=2).total == 0
    assert manifest_shape(manifest, 2, USUAL).num_rows == 2


def test_an_unchecked_manifest_is_refused_for_them_too(opened):
    with pytest.raises(ManifestError, match=r"a\.csv, line 3, row 1, column 'steps': 'x'"):
        manifest_shape(opened("a.csv", "prompt,steps\na,1\nb,x\n"), None, USUAL)
    with pytest.raises(ManifestRowsError) as caught:
        manifest_shape(opened("b.csv", "prompt,steps\na,y\nb,x\n"), None, USUAL)
    assert caught.value.total == 2
    with pytest.raises(ManifestError, match="is no size"):
        manifest_shape(opened("c.csv", "prompt,size\na,10x\n"), None, USUAL)


def test_sizes_of_parquet_are_faults_of_their_rows(write, tmp_path, limits):
    sizes = pa.array([b"8x8", b"10x", None, b"\xff\xfe", b" 16 X 24 "]).view(pa.string())
    path = write({"prompt": list("abcde"), "size": sizes})
    manifest = open_any(path, lambda: tmp_path).manifest
    report = check_rows(manifest, limits=limits)

    said = [(one.row, one.column, one.value) for one in report.problems]
    assert said == [(1, "size", "'10x'"), (3, "size", "")]
    assert report.sizes == {(8, 8): 1, (None, None): 3, (16, 24): 1}
    shown = pa.concat_tables(iter_tables(manifest.ref, lenient=True)).to_pylist()
    assert [row["width"] for row in shown] == [8, None, None, None, 16]


def test_commands_that_write_new_manifests_refuse_them(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,steps\na,x\n")

    with pytest.raises(InputError, match="column 'steps': 'x'"), reading(str(path)):
        raise AssertionError("it was opened")

import pyarrow.parquet as pq
import pytest

from sdbatch.errors import InputError
from sdbatch.manifest.checks import check_rows
from sdbatch.manifest.fault_log import PROBLEMS, FaultLog
from sdbatch.manifest.reader import open_manifest


@pytest.fixture
def logged(write, limits, tmp_path):
    def _logged(columns, path=None):
        manifest = open_manifest(path or write(columns))
        with FaultLog(tmp_path / "errors.parquet", manifest.ref) as log:
            report = check_rows(manifest, limits=limits, log=log)
        return report, pq.read_table(tmp_path / "errors.parquet")

    return _logged


def test_every_problem_is_written_not_the_first_twenty_alone(logged):
    rows = 20_000
    report, found = logged({"prompt": [None] * rows, "id": ["x"] * rows, "width": [100] * rows})

    assert found.schema == PROBLEMS
    assert found.num_rows == report.total == 3 * rows - 1
    assert len(report.problems) == 20
    ids = [row for row in found.to_pylist() if row["column"] == "id"]
    assert [row["row"] for row in ids] == [*range(1, rows)]
    assert ids[5]["value"] == "'x'"
    assert ids[5]["message"] == "stands at row 0 already, ids must be unique"


def test_a_problem_names_the_file_its_row_lies_in(logged, write, tmp_path):
    write({"prompt": ["a", "b"]}, "many/1.parquet")
    write({"prompt": ["c", None]}, "many/2.parquet")

    _, found = logged(None, str(tmp_path / "many"))

    (row,) = found.to_pylist()
    assert (row["file"], row["row"]) == (str(tmp_path / "many" / "2.parquet"), 3)


def test_a_problem_of_a_column_is_written_too(logged):
    report, found = logged({"prompt": ["a"], "key": ["x"]})

    assert report.total == 1
    assert found["row"].to_pylist() == [-1]
    assert found["column"].to_pylist() == ["key"]


def test_no_problems_make_an_empty_file(logged):
    assert logged({"prompt": ["a"]})[1].num_rows == 0


def test_a_check_that_breaks_off_leaves_what_stood(write, tmp_path):
    manifest = open_manifest(write({"prompt": ["a"]}))
    path = tmp_path / "errors.parquet"
    path.write_bytes(b"before")

    def break_off():
        with FaultLog(path, manifest.ref) as log:
            log.add(0, "prompt", "", "is null")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()

    assert path.read_bytes() == b"before"
    assert {item.name for item in tmp_path.iterdir()} == {"errors.parquet", "rows.parquet"}


@pytest.mark.parametrize("path", ["s3://bucket/errors.parquet", "nowhere/errors.parquet"])
def test_a_report_that_cannot_be_written_is_refused_before_the_check(path, write):
    with pytest.raises(InputError, match="--report"):
        FaultLog(path, open_manifest(write({"prompt": ["a"]})).ref)

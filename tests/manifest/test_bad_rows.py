import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.errors import ManifestError
from sdbatch.manifest.bad_rows import bad_rows_of, emptied, read_bad_rows
from sdbatch.manifest.fault_log import PROBLEMS


def problems(*rows):
    return pa.Table.from_pylist(
        [
            {"file": "m", "row": row, "column": column, "value": value, "message": message}
            for row, column, value, message in rows
        ],
        schema=PROBLEMS,
    )


WIDTH = "must be a multiple of 8"
BAD = problems((7, "width", "100", WIDTH), (3, "seed", "-1", "too small"), (7, "seed", "", "null"))


def test_cells_come_by_row_and_the_same_for_problems_in_any_order():
    bad = bad_rows_of(BAD)

    assert bad.cells["row_index"].to_pylist() == [3, 7, 7]
    assert bad.num_rows == 2
    assert bad.cells.equals(bad_rows_of(BAD.take([2, 1, 0])).cells)


def test_a_row_with_two_faults_says_both():
    assert bad_rows_of(BAD).messages() == {
        3: "column 'seed': -1: too small",
        7: f"column 'seed': null; column 'width': 100: {WIDTH}",
    }


def test_mending_empties_the_bad_cells_and_no_others():
    table = pa.table({"width": [100, 64, 100], "seed": [1, -1, 2], "prompt": list("abc")})

    mended = bad_rows_of(BAD).mend(table, np.array([7, 3, 8]))

    assert mended["width"].to_pylist() == [None, 64, 100]
    assert mended["seed"].to_pylist() == [None, None, 2]
    assert mended["prompt"].to_pylist() == list("abc")


def test_a_window_has_its_own_rows_alone():
    bad = bad_rows_of(BAD)

    assert bad.between(0, 7).cells["row_index"].to_pylist() == [3]
    assert bad.between(4, 7).cells.num_rows == 0
    assert bad.between(7, 8).cells.num_rows == 2


def test_a_stored_table_is_read_by_window(tmp_path):
    cells = bad_rows_of(problems(*((row, "seed", "", "null") for row in range(100)))).cells
    pq.write_table(cells, tmp_path / "bad.parquet", row_group_size=10)

    with (tmp_path / "bad.parquet").open("rb") as file:
        found = read_bad_rows(file, 35, 52)

    assert found.cells["row_index"].to_pylist() == [*range(35, 52)]


def test_what_is_wrong_with_a_whole_column_is_no_bad_row():
    with pytest.raises(ManifestError, match="stands twice"):
        bad_rows_of(problems((-1, "width", "", "stands twice")))


def test_ids_and_prompts_stay_unless_they_are_no_text(broken):
    table = pa.table({"id": ["x", "x"], "prompt": broken})

    left = emptied(table, {name: np.array([True, True]) for name in table.column_names})

    assert left["id"].to_pylist() == ["x", "x"]
    assert left["prompt"].to_pylist() == ["a", None]


def test_cells_of_any_type_can_be_emptied():
    table = pa.table(
        {
            "tags": [["a"], ["b"]],
            "facts": [{"a": 1}, {"a": 2}],
            "word": pa.array(["a", "b"]).dictionary_encode(),
        }
    )

    left = emptied(table, {name: np.array([False, True]) for name in table.column_names})

    assert left.to_pylist() == [{"tags": ["a"], "facts": {"a": 1}, "word": "a"},
                                {"tags": None, "facts": None, "word": None}]  # fmt: skip
    assert left.schema == table.schema

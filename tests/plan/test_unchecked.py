"""Runs of manifests that nobody checked: one bad row costs itself, broken text is refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import InputError

UNCHECKED = {"engine": "inline", "model": "fake", "size": "64x64", "check": False}


def test_rows_that_cannot_be_read_become_failed_rows(tmp_path):
    columns = {"prompt": ["a", None, "b"], "scheduler_config": [None, None, "{"]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")

    summary = api.render(str(tmp_path / "rows.parquet"), tmp_path / "out", **UNCHECKED)

    assert (summary.success, summary.failed) == (1, 2)
    assert api.open_dataset(tmp_path / "out").verify(3).exit_code == 0


def test_a_shard_of_nothing_but_unreadable_rows_is_finished(tmp_path):
    columns = {"prompt": pa.array([None, None, "a"], pa.string())}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")

    summary = api.render(
        str(tmp_path / "rows.parquet"), tmp_path / "out", shard_size=2, **UNCHECKED
    )

    assert (summary.success, summary.failed) == (1, 2)


def test_broken_text_is_refused_before_a_shard_holds_it(tmp_path):
    texts = pa.array([b"x", b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"prompt": ["a", "b"], "mood": texts}), tmp_path / "rows.parquet")

    with pytest.raises(InputError, match="row 1, column 'mood': is not UTF-8 text"):
        api.render(str(tmp_path / "rows.parquet"), tmp_path / "out", **UNCHECKED)

    assert not list((tmp_path / "out").glob("**/data/*.parquet"))

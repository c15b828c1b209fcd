"""Rows that come in one order and leave in another, from local disk."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sdbatch.transfer.spool import OrderSpool

SCHEMA = pa.schema([("key", pa.string()), ("image", pa.struct([("bytes", pa.binary())]))])


def batch(numbers):
    return pa.RecordBatch.from_pylist(
        [{"key": f"k{n}", "image": {"bytes": b"%d" % n}} for n in numbers], schema=SCHEMA
    )


@given(st.permutations(range(200)), st.integers(1, 90))
def test_rows_leave_by_rank_whatever_the_order_and_size_they_came_in(ranks, step):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        spool = OrderSpool(Path(folder) / "rows.arrow", SCHEMA)
        for first in range(0, len(ranks), step):
            part = ranks[first : first + step]
            spool.add(batch(part), [f"n{n}" for n in part], part)
        found = [
            (row["key"], row["image"]["bytes"], name)
            for rows, names in spool.ordered()
            for row, name in zip(rows.to_pylist(), names, strict=True)
        ]
        assert not list(Path(folder).iterdir())

    assert found == [(f"k{n}", b"%d" % n, f"n{n}") for n in range(200)]


def test_an_empty_spool_gives_nothing(tmp_path):
    spool = OrderSpool(tmp_path / "rows.arrow", SCHEMA)

    assert list(spool.ordered()) == []

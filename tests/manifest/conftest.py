"""Small manifests on disk, and limits of a small model."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.manifest.faults import Limits


@pytest.fixture
def limits():
    return Limits(
        model="shapes",
        size_multiple_px=8,
        num_train_timesteps=1000,
        schedulers=frozenset(
            {"DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"}
        ),
        reserved=frozenset({"key", "sha256"}),
        unfit={"RePaintScheduler": "its step wants a mask"},
    )


@pytest.fixture
def write(tmp_path):
    """Write columns (or a table) as Parquet and give the path."""

    def _write(columns, name="rows.parquet", **options):
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, **options)
        return str(path)

    return _write


@pytest.fixture
def broken():
    """Two texts, the second no UTF-8."""
    ends = np.array([0, 1, 3], np.int32)
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(b"a\xff\xfe")]
    return pa.Array.from_buffers(pa.string(), 2, buffers)

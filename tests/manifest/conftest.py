"""Small manifests on disk, and limits of a small model."""

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

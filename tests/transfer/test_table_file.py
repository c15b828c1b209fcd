"""Files of batches keep the bounds of row groups, however large the batches are."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch.transfer import table_file
from sdbatch.transfer.table_file import TableFile

SCHEMA = pa.schema([("key", pa.string()), ("data", pa.binary())])


@pytest.mark.parametrize("rows", [1, 2, 63, 64])
def test_a_batch_of_large_pictures_becomes_row_groups_that_readers_can_hold(
    rows, tmp_path, monkeypatch
):
    monkeypatch.setattr(table_file, "GROUP_BYTES", 5000)
    pictures = [bytes([number]) * 1000 for number in range(rows)]
    keys = [f"{number:03d}" for number in range(rows)]
    batch = pa.RecordBatch.from_arrays(
        [pa.array(keys), pa.array(pictures, pa.binary())], SCHEMA.names
    )
    with TableFile(tmp_path / "t.parquet", SCHEMA) as table:
        table.add(batch)
        table.add(batch)
        written = table.finish()
    file = pq.ParquetFile(written.path, pre_buffer=False)
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]

    assert file.read().to_pylist() == 2 * batch.to_pylist()
    assert sum(groups) == written.num_rows == 2 * rows
    assert max(groups) <= 5

"""What many tests share: small manifests, and a reporter that remembers."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]


class Memory:
    """A reporter that keeps what it was told."""

    def __init__(self):
        self.lines, self.steps = [], []

    def note(self, line):
        self.lines.append(line)

    def progress(self, progress):
        self.steps.append(progress)

    @property
    def text(self):
        return "\n".join(self.lines)


@pytest.fixture
def report():
    return Memory()


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest of numbered prompts with extra columns; returns its path."""

    def write(rows=20, name="rows.parquet", **columns):
        table = {"prompt": [f"picture number {i}" for i in range(rows)], **columns}
        path = tmp_path / name
        pq.write_table(pa.table(table), path)
        return str(path)

    return write


@pytest.fixture
def shapes():
    """The shipped manifest of the embedded model's world."""
    return str(ROOT / "manifests" / "shapes.parquet")

"""What many tests share: small manifests, and a reporter that remembers."""

import importlib.util
import os
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


def pytest_collection_modifyitems(items):
    """Skip what needs Ray where Ray is absent; the reason names it."""
    if importlib.util.find_spec("ray") is None:
        for item in items:
            if item.get_closest_marker("ray"):
                item.add_marker(pytest.mark.skip(reason="ray is not installed"))


def pytest_sessionfinish(session, exitstatus):
    """With CI=true everything is installed: a skipped test means a missing tool, and fails."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") == "true" and skipped and exitstatus == 0:
        reporter.write_line(f"{len(skipped)} tests were skipped, and CI=true allows none", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

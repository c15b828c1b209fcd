"""Many rows, little memory: nothing that grows with the manifest stays in the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(180)
def test_fifty_thousand_rows_are_drawn_in_flat_memory():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.scale", "--rows", "50000", "--engine", "inline"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["exit_code"], figures["success"]) == (0, 50_000)
    assert figures["growth_mib"] < 100, figures

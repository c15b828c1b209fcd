"""Whole runs for tests: pictures read back, and runs that are stopped on the way."""

import io

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from sdbatch import api
from sdbatch.records import RenderRow

INLINE = {"engine": "inline", "size": "64x64"}


def pictures(out):
    """(row_index, image_index) to (row as dict, pixels) of everything in `data/`."""
    found = {}
    for path in api.open_dataset(out).files():
        for row in pq.read_table(path).to_pylist():
            pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
            key = (row["row_index"], row["image_index"])
            assert key not in found
            found[key] = (row, pixels)
    return found


def asked_for(row):
    """The request a stored row stands for."""
    return RenderRow(
        row["row_index"], row["image_index"], row["row_id"], row["prompt"],
        row["negative_prompt"], row["seed"], row["width"], row["height"],
        row["num_inference_steps"], row["guidance_scale"], row["scheduler"],
        row["scheduler_config"], row["row_hash"],
    )  # fmt: skip


def hashes(out):
    table = api.open_dataset(out).to_table(["key", "pixel_sha256"])
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


class StopAfter:
    """A reporter that asks for an end, as a signal would, once some pictures are drawn."""

    def __init__(self, count):
        self.count, self.lines = count, []

    def note(self, line):
        self.lines.append(line)

    def progress(self, progress):
        if progress.done + progress.finished >= self.count:
            self.stop.request("a test")


def run_until(count, monkeypatch, *args, **options):
    from sdbatch.engine import run as run_module

    report = StopAfter(count)

    class Watched(run_module.Run):
        def execute(self):
            report.stop = self._stop
            return super().execute()

    monkeypatch.setattr(api, "Run", Watched)
    summary = api.render(*args, report=report, **options)
    monkeypatch.setattr(api, "Run", run_module.Run)
    return summary

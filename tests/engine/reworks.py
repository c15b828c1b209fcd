"""Datasets with failures in chosen rows, and what must not change when they are drawn again."""

import hashlib
import io
import time

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from sdbatch import api
from sdbatch.render.fake import FakeRenderer
from sdbatch.results import RowFailure
from tests.engine.runs import INLINE

ENGINE = {"engine": "inline"}
FAULTS = {3: "OneError", 4: "OtherError", 17: "OneError", 25: "OtherError"}
"""Rows that fail the first time: shards 0, 1 and 2 of four shards of ten."""


def spoil(monkeypatch, faults):
    """From now on exactly these rows fail, each with its error; again for other rows."""
    real = spoil.__dict__.setdefault("real", FakeRenderer._draw)

    def draw(self, row, lanes):
        if row.row_index in faults:
            return RowFailure(row, faults[row.row_index], "spoilt by a test", "line 1\nline 2")
        return real(self, row, lanes)

    monkeypatch.setattr(FakeRenderer, "_draw", draw)


def spoilt(manifest, tmp_path, monkeypatch, faults=FAULTS, rows=40, model="fake", **options):
    """A finished dataset of shards of ten in which these rows failed; they fail no more."""
    out = tmp_path / "out"
    spoil(monkeypatch, faults)
    path = manifest(rows, label=[f"label {i}" for i in range(rows)])
    summary = api.render(path, out, model=model, shard_size=10, **options, **INLINE)
    assert summary.failed == len(faults)
    spoil(monkeypatch, {})
    return out


def files(out):
    """Dataset file to its sha256."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("data", "metadata", "errors")
        for path in sorted((out / folder).glob("*.parquet"))
    }


def of_shard(found, shard_id):
    return {name: digest for name, digest in found.items() if f"train-{shard_id:05d}-" in name}


def table(out):
    """Row index to all columns, picture bytes among them, of everything in `data/`."""
    rows = {}
    for path in sorted((out / "data").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            assert row["row_index"] not in rows
            rows[row["row_index"]] = row
    return rows


def failures(out):
    """Row index to error type."""
    found = api.open_dataset(out).errors()
    if not found.num_rows:
        return {}
    return dict(zip(found["row_index"].to_pylist(), found["error_type"].to_pylist(), strict=True))


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def is_exact(out):
    """Whether every file on disk is one that a standing record names, and sound to the pixel."""
    dataset = api.open_dataset(out)
    report = dataset.verify(3)
    named = {path.rsplit("/", 1)[-1] for path in dataset.files()}
    on_disk = {path.name for path in (out / "data").iterdir()}
    return report.exit_code == 0 and not report.orphans and named == on_disk


SLOW = "fake:lanes=2"
HELD = 16
"""With two lanes, rows behind this one are never in flight together with those before it."""


def retry_until(shards, monkeypatch, out, **options):
    """A retry that is stopped after so many shards; from `HELD` on rows wait for the stop."""
    from sdbatch.engine.session import Session

    stops = []
    with monkeypatch.context() as patch:
        draw, on_done = FakeRenderer._draw, Session._on_done

        def held(self, row, lanes):
            deadline = time.monotonic() + 20
            while row.row_index == HELD and not stops and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.3 if row.row_index == HELD else 0)  # until the stop has come down
            return draw(self, row, lanes)

        def done(self, event):
            on_done(self, event)
            if len(self.done) >= shards:
                self.stop.request("a test")
                stops.append(True)

        patch.setattr(FakeRenderer, "_draw", held)
        patch.setattr(Session, "done", [], raising=False)
        patch.setattr(Session, "_on_done", lambda self, e: (self.done.append(e), done(self, e)))
        patch.setattr("sdbatch.engine.driver_loop.TURN_S", 0.02)
        return api.retry(out, **options, **ENGINE)

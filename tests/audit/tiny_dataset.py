"""A small real dataset: three shards of Parquet with pictures, failures in one of them."""

from __future__ import annotations

import hashlib
import io
import json
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch.dataset.images import encode
from sdbatch.dataset.protocol import Tally
from sdbatch.output_specs import ImageSpec
from sdbatch.records import Shard, image_key
from sdbatch.results import DataFile, ShardResult
from sdbatch.storage import layout
from sdbatch.storage.commit import RunFolder
from sdbatch.storage.store import Store, open_store

PLAN = "plan-0123456789abcdef"
WINDOWS = [(0, 2), (2, 5), (5, 6)]
IMAGES_PER_ROW = 2
FAILED = {(3, 1), (4, 0)}
NUM_ROWS = WINDOWS[-1][1]
NUM_IMAGES = NUM_ROWS * IMAGES_PER_ROW


def memory_store() -> Store:
    return open_store(f"memory://audit-{uuid.uuid4().hex}")


def make_shards():
    return [
        Shard(shard_id, first, end, "", 0, end - first, (end - first) * IMAGES_PER_ROW, 1.0)
        for shard_id, (first, end) in enumerate(WINDOWS)
    ]


def write_job(store, run="main", **changes):
    shards = [{name: getattr(shard, name) for name in Shard.__slots__} for shard in make_shards()]
    plan_key = layout.content_key(run, "plan", "ab" * 8)
    store.put(plan_key, parquet(pa.Table.from_pylist(shards)))
    job = {
        "protocol": 1,
        "plan_id": PLAN,
        "run": run,
        "asked": {"manifest": "prompts.parquet"},
        "resolved": {"model": "shapes", "failures.allow": "0"},
        "images": NUM_IMAGES,
        "rows": NUM_ROWS,
        "num_shards": len(WINDOWS),
        "plan_key": plan_key,
        **changes,
    }
    RunFolder(store, run).create_job(json.dumps(job).encode())
    return job


def picture(row, image, salt=0):
    rng = np.random.default_rng([row, image, salt])
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return encode(pixels, ImageSpec())


def shard_rows(shard_id, run="main"):
    """(rows of data, rows of errors) of a shard, in order."""
    data, errors = [], []
    first, end = WINDOWS[shard_id]
    for row in range(first, end):
        for image in range(IMAGES_PER_ROW):
            ids = {
                "key": image_key(row, image, run),
                "row_index": row,
                "image_index": image,
                "shard_id": shard_id,
            }
            if (row, image) in FAILED:
                failure = {"status": "failed", "error_type": "NonFiniteError", "error_message": "x"}
                errors.append({**ids, **failure})
                continue
            encoded = picture(row, image)
            facts = {
                "image": {"bytes": encoded.data, "path": None},
                "sha256": encoded.sha256,
                "pixel_sha256": encoded.pixel_sha256,
                "image_width": encoded.width_px,
                "image_height": encoded.height_px,
            }
            data.append({**ids, **facts})
    return data, errors


def write_shard(store, shard_id, data, errors, attempt="0a1b2c3d", run="main", finished=""):
    """Store and commit a shard with a record that fits whatever the rows are."""
    tally = Tally()
    ends = [(row, "success") for row in data] + [(row, "failed") for row in errors]
    for row, end in sorted(ends, key=lambda end: (end[0]["row_index"], end[0]["image_index"])):
        tally.add(row["key"], end)

    def put(kind, rows):
        body = parquet(pa.Table.from_pylist(rows))
        key = layout.data_key(kind, shard_id, len(WINDOWS), attempt, run)
        store.put(key, body)
        return DataFile(key, len(rows), len(body), hashlib.sha256(body).hexdigest())

    metadata = [{name: value for name, value in row.items() if name != "image"} for row in data]
    first, end = WINDOWS[shard_id]
    result = ShardResult(
        shard_id=shard_id,
        attempt=attempt,
        data=put("data", data),
        metadata=put("metadata", metadata),
        errors_file=put("errors", errors) if errors else None,
        num_rows=end - first,
        success=len(data),
        failed=len(errors),
        filtered=0,
        images_sha256=tally.images_sha256,
        errors={"NonFiniteError": len(errors)} if errors else {},
        started_at=f"2026-01-01T00:00:0{shard_id}+00:00",
        finished_at=finished or f"2026-01-01T00:00:1{shard_id}+00:00",
        phase_seconds={},
        row_steps=0,
        lane_steps=0,
        lane_slots=0,
        worker="w0",
        device_name="cpu",
        attempts=1,
    )
    assert RunFolder(store, run).commit(result, PLAN)
    return result


def write_dataset(store, run="main", shards=(0, 1, 2), success=True, **job):
    write_job(store, run, **job)
    for shard_id in shards:
        write_shard(store, shard_id, *shard_rows(shard_id, run), run=run)
    if success:
        RunFolder(store, run).create_success(PLAN, len(WINDOWS))


def parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()

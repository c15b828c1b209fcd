"""How long `--only-new` takes to find what stands, and how much memory.

python -m tests.bench.only_new --rows 1000000 10000000

A dataset of N pictures is put down as a finished run would leave it, metadata columns only; a
manifest of N rows (id, prompt of 60 characters) shares all but 1,000 of them and has 1,000 new
ones. Timed are `plan --only-new` of it, of a manifest without ids, and with another revision
of the model, in processes of their own; without `--only-new` for comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdbatch import api
from sdbatch.plan.row_hashes import RowHashes
from sdbatch.plan.rows import Resolving
from sdbatch.plan.settings import ROW_SETTINGS
from sdbatch.records import RowDefaults

NEW = 1000
CHUNK = 100_000
FAKE = {"engine": "inline", "size": "64x64"}
CHILD = """
import json, sys, time
from sdbatch import api
started = time.monotonic()
options = json.loads(sys.argv[3])
report = api.plan(sys.argv[1], sys.argv[2], append="night", **options)
seconds = time.monotonic() - started
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(json.dumps({"rows": report.rows, "only_new": report.only_new,
                  "seconds": round(seconds, 1), "peak_mb": peak // 1024}))
"""


def table(first: int, rows: int, ids: bool) -> pa.Table:
    """Rows `first` to `first + rows` of the manifest."""
    numbers = np.arange(first, first + rows).astype(str)
    prompts = np.char.add("a photograph of a red fox in the first snow of the year, ", numbers)
    columns = {"prompt": pa.array(prompts)}
    return pa.table({"id": pa.array(numbers), **columns} if ids else columns)


def write_manifest(path: Path, rows: int, ids: bool) -> None:
    """All but the first `NEW` rows of the dataset, and as many others."""
    writer = None
    for first in range(NEW, NEW + rows, CHUNK):
        part = table(first, min(CHUNK, NEW + rows - first), ids)
        writer = writer or pq.ParquetWriter(path, part.schema)
        writer.write_table(part, CHUNK)
    if writer is not None:
        writer.close()


def put_down(out: Path, rows: int, ids: bool) -> None:
    """A finished run of `rows` pictures: a small real one whose record names other metadata."""
    seed = out.parent / f"seed-{ids}.parquet"
    pq.write_table(table(0, 3, ids), seed)
    api.render(str(seed), out, model="fake", **FAKE)
    job = json.loads((out / "__sdbatch/main/job.json").read_text())["resolved"]
    defaults = RowDefaults(**{name: job[f"defaults.{name}"] for name in ROW_SETTINGS})
    how = Resolving("m", defaults, 0, True, {}, job["model.revision"])
    (kept,) = (out / "metadata").glob("*.parquet")
    hashes = RowHashes(how)
    writer = None
    for first in range(0, rows, CHUNK):
        size = min(CHUNK, rows - first)
        part = _metadata(table(first, size, ids), hashes, first)
        writer = writer or pq.ParquetWriter(kept, part.schema, compression="zstd")
        writer.write_table(part, 8192)
    if writer is not None:
        writer.close()


def _metadata(part: pa.Table, hashes: RowHashes, first: int) -> pa.Table:
    """What metadata/ has of these rows, where it is compared."""
    from sdbatch.plan.rows import resolve_rows

    places = np.arange(first, first + part.num_rows)
    found = hashes.pictures(part, places)
    texts = [bytes(pair).hex() for pair in found.requests]
    rows = resolve_rows(part.slice(0, 1), places[:1], hashes._how)
    assert rows[0].row_hash == texts[0], "the fast hash is not that of the worker"
    seeds = pa.array([row.seed for row in resolve_rows(part, places, hashes._how)])
    row_id = part["id"] if "id" in part.column_names else pa.array(
        [hashlib.blake2b(t.encode(), digest_size=16).hexdigest() for t in texts]
    )  # fmt: skip
    return pa.table(
        {
            "row_id": row_id,
            "image_index": pa.array(np.zeros(part.num_rows, np.int32)),
            "row_hash": texts,
            "prompt": part["prompt"],
            "seed": seeds,
        }
    )


def main() -> None:
    """Print one line of JSON per measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", default=None)
    args = parser.parse_args()
    for rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            for ids in (True, False):
                folder = Path(name)
                out, path = folder / f"out-{ids}", folder / f"manifest-{ids}.parquet"
                write_manifest(path, rows, ids)
                put_down(out, rows, ids)
                for what, model, only_new in (
                    ("without", "fake", False),
                    ("same model", "fake", True),
                    ("another revision", "fake:fail=0.5", True),
                ):
                    options = {**FAKE, "model": model, "only_new": only_new}
                    command = [
                        sys.executable,
                        "-c",
                        CHILD,
                        str(path),
                        str(out),
                        json.dumps(options),
                    ]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    facts = json.loads(done.stdout)
                    print(json.dumps({"rows": rows, "ids": ids, "what": what, **facts}), flush=True)


if __name__ == "__main__":
    main()

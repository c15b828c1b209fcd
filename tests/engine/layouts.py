"""Datasets of every layout read as people read them: what is on disk, with no code of ours."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sdbatch import api
from sdbatch.audit.pictures import committed_rows
from sdbatch.storage.store import open_store

LAYOUTS = ("parquet", "webdataset", "files")


def drawn(out):
    """Row index to (columns, picture bytes), by the standing records."""
    rows = [
        row for batch in committed_rows(open_store(out), pictures=True) for row in batch.to_pylist()
    ]
    found = {(row["row_index"], row["image_index"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def on_disk(out):
    """Key to sha256 of every picture that lies in the dataset, whoever it belongs to."""
    found = {}

    def add(key, data):
        assert key not in found, f"picture {key} lies there twice"
        found[key] = hashlib.sha256(data).hexdigest()

    for path in sorted(Path(out).glob("data/**/*.parquet")):
        for row in pq.read_table(path, columns=["key", "image"]).to_pylist():
            add(row["key"], row["image"]["bytes"])
    for path in sorted(Path(out).glob("data/**/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    add(member.name.removesuffix(".png"), tar.extractfile(member).read())
    for path in sorted(Path(out).glob("images/**/*.png")):
        add(path.stem, path.read_bytes())
    return found


def is_sound(out):
    """Whether the dataset holds what its records say, to the pixel, and nothing else."""
    report = api.open_dataset(out).verify(3)
    assert not report.problems, report.problems[:3]
    assert not report.orphans
    assert on_disk(out) == {row["key"]: row["sha256"] for row in drawn(out).values()}
    return report.exit_code == 0


def pixels(row):
    return np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))


def samples(path):
    """Name to {ending: bytes} of a tar, in its order."""
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            stem, _, ending = member.name.partition(".")
            found.setdefault(stem, {})[ending] = tar.extractfile(member).read()
    return found


def rows_of_tar(path):
    return [json.loads(sample["json"]) for sample in samples(path).values()]


def table(batches):
    return pa.Table.from_batches(list(batches))

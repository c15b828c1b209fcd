"""What tests of exports share: datasets to export, and readers of every form."""

import hashlib
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from sdbatch import api
from sdbatch.render.fake import FakeRenderer
from sdbatch.storage.record import read_object
from sdbatch.storage.store import open_store
from tests.storage.stores import FaultStore, PowerCut
from tests.storage.turns import is_write

INLINE = {"engine": "inline", "size": "64x64"}
FORMATS = ("parquet", "webdataset", "files", "imagefolder")
LABELS = ["cat", "a dog/é", None, "CON"]


def rows(count, first=0, **columns):
    """Manifest rows with a label and an id that is no file name."""
    return [
        {
            "prompt": f"picture <b>{i}</b> \u202e",
            "seed": i,
            "label": LABELS[i % len(LABELS)],
            "id": f"../{i // 2}/{'x' if i % 2 else 'X'}",
            **columns,
        }
        for i in range(first, first + count)
    ]


def render(out, count=40, shard_size=9, model="fake:fail=0.15", **options):
    return api.render(rows(count), out, model=model, shard_size=shard_size, **INLINE, **options)


def ledger(out):
    """Key to (picture's sha256, all other columns) of all committed pictures: what must stand."""
    found = {}
    for path in api.open_dataset(out).files():
        for row in pq.read_table(path).to_pylist():
            picture = row.pop("image")["bytes"]
            assert hashlib.sha256(picture).hexdigest() == row["sha256"]
            assert row["key"] not in found
            found[row["key"]] = row
    return found


def read(dest, split=None):
    """Key to columns of everything in an export, read as plain files; pictures are checked."""
    dest = Path(dest)
    kind = read_object(open_store(dest), "__sdbatch/export/terms.json")["terms"]["format"]
    found = {}
    readers = {"parquet": _parquet, "webdataset": _tars}
    for row, picture in readers.get(kind, _lists)(dest, split):
        assert hashlib.sha256(picture).hexdigest() == row["sha256"]
        assert row["key"] not in found, "a picture stands twice"
        found[row["key"]] = row
    return found


def order(dest, split="train"):
    """Keys of a split in the order of its files."""
    return list(read(dest, split))


def _parquet(dest, split):
    for path in sorted((dest / "data").glob(f"{split or '*'}-*.parquet")):
        table = pq.read_table(path)
        beside = pq.read_table(dest / "metadata" / path.name)
        assert beside.equals(table.drop_columns(["image"]))
        for row in table.to_pylist():
            yield row, row.pop("image")["bytes"]


def _tars(dest, split):
    for path in sorted((dest / "data").glob(f"{split or '*'}-*.tar")):
        beside = pq.read_table(dest / "metadata" / f"{path.stem}.parquet").to_pylist()
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        assert [name for name in members if name.endswith(".png")] == [
            row["file_name"] for row in beside
        ]
        for row in beside:
            name = row.pop("file_name")
            said = json.loads(members[name.replace(".png", ".json")])
            assert said["key"] == row["key"]
            assert None not in said.values()
            yield row, members[name]


def _lists(dest, split):
    for path in sorted(dest.rglob("metadata.parquet")):
        if split is None or path.parent.name == split or path.parent == dest:
            for row in pq.read_table(path).to_pylist():
                yield row, (path.parent / row.pop("file_name")).read_bytes()


def pictures_on_disk(dest):
    return sorted(str(path.relative_to(dest)) for path in Path(dest).rglob("*.png"))


def objects(dest):
    """Every object of an export but its leases, by its bytes."""
    return {
        str(path.relative_to(dest)): path.read_bytes()
        for path in sorted(Path(dest).rglob("*"))
        if path.is_file() and "lease" not in path.parts
    }


def content(dest):
    """Every file that readers see, by its hash; the card names its day and is left out."""
    return {
        name: hashlib.sha256(data).hexdigest()
        for name, data in objects(dest).items()
        if not name.startswith("__sdbatch") and name != "README.md"
    }


def draw_otherwise(monkeypatch):
    """From now on every picture is drawn in other colours."""
    real = FakeRenderer._draw

    def draw(self, row, lanes):
        image = real(self, row, lanes)
        return replace(image, pixels=255 - image.pixels) if hasattr(image, "pixels") else image

    monkeypatch.setattr(FakeRenderer, "_draw", draw)


class DyingStore(FaultStore):
    """Counts writes; after the fault it met, a process is dead: nothing it asks happens."""

    dead = False

    def _step(self, call, *args):
        if self.dead:
            raise PowerCut
        if not is_write(self.inner, call):
            return call(*args)
        try:
            return super()._step(call, *args)
        except PowerCut:
            self.dead = True
            raise

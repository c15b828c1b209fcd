"""Every layout keeps every promise: finished, interrupted, retried, damaged and repaired."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdbatch import api
from sdbatch.errors import InputError, JobError
from sdbatch.render.fake import fake_pixels
from sdbatch.storage.store import open_store
from tests.engine.layouts import LAYOUTS, drawn, is_sound, pixels, rows_of_tar, samples
from tests.engine.reworks import ENGINE, spoil
from tests.engine.runs import INLINE, asked_for, run_until

ROOT = Path(__file__).parents[2]
ROWS = 24
FAULTS = {3: "OneError", 12: "OneError"}
BESIDE = ("webdataset", "files")
KIND = pa.struct([("x", pa.int64()), ("names", pa.list_(pa.string()))])


def rows():
    """Columns that are null, nested or odd in some shards and not in others."""
    late = [i >= ROWS // 2 for i in range(ROWS)]
    nested = [
        {"x": i, "names": ["a", str(i)]} if is_late else None for i, is_late in enumerate(late)
    ]
    return pa.table(
        {
            "prompt": [f'<b>row</b> {i} \U0001f98a \u05de\u05d9\u05df\n"q"' for i in range(ROWS)],
            "note": pa.array([f"n{i}" if is_late else None for i, is_late in enumerate(late)]),
            "empty": pa.nulls(ROWS),
            "nested": pa.array(nested, KIND),
            "score": pa.array([i / 7 if is_late else None for i, is_late in enumerate(late)]),
            "count": pa.array([i if is_late else None for i, is_late in enumerate(late)]),
            "good": pa.array([is_late or None for is_late in late]),
            "breed": [["cat", "dog", "axolotl"][i % 3] for i in range(ROWS)],
        }
    )


def options(layout, **more):
    captions = {"captions": "txt"} if layout in BESIDE else {}
    return {"format": layout, "model": "fake", "shard_size": 8, **captions, **INLINE, **more}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def out(layout, tmp_path, monkeypatch):
    """A finished dataset of three shards in which two rows failed; they fail no more."""
    spoil(monkeypatch, FAULTS)
    summary = api.render(rows(), tmp_path / "out", class_label="breed", **options(layout))
    assert (summary.success, summary.failed) == (ROWS - 2, 2)
    spoil(monkeypatch, {})
    return tmp_path / "out"


def picture_files(out, layout):
    """Files that hold pictures, or tell of them."""
    folder = {"parquet": "data", "webdataset": "data", "files": "images"}[layout]
    return sorted(path for path in (out / folder).rglob("*") if path.is_file())


def test_all_layouts_hold_the_same_rows_and_pictures(out, tmp_path):
    whole = drawn(out)

    assert is_sound(out)
    assert {row for row, _ in whole} == set(range(ROWS)) - FAULTS.keys()
    for row in whole.values():
        assert np.array_equal(pixels(row), fake_pixels(asked_for(row)))
        assert row["note"] == (f"n{row['row_index']}" if row["row_index"] >= ROWS // 2 else None)
        assert row["breed"] == [1, 2, 0][row["row_index"] % 3]  # of axolotl, cat, dog


def test_a_run_that_was_interrupted_is_the_one_that_was_not(layout, tmp_path, monkeypatch):
    api.render(rows(), tmp_path / "whole", **options(layout))
    run_until(9, monkeypatch, rows(), tmp_path / "out", **options(layout, model="fake:lanes=2"))
    summary = api.render(rows(), tmp_path / "out", **options(layout, model="fake:lanes=2"))

    assert summary.exit_code == 0
    whole = drawn(tmp_path / "whole")
    assert is_sound(tmp_path / "out")
    for place, row in drawn(tmp_path / "out").items():
        assert row["pixel_sha256"] == whole[place]["pixel_sha256"]


def test_a_retry_draws_what_failed_and_keeps_every_other_byte(out):
    before = drawn(out)

    summary = api.retry(out, **ENGINE)

    after = drawn(out)
    assert (summary.success, summary.failed) == (ROWS, 0)
    assert {place: after[place] for place in before} == before
    assert is_sound(out)


@pytest.mark.parametrize("lost", ["metadata", "data"])
def test_a_repair_makes_good_for_a_file_that_is_gone(out, layout, lost):
    before = drawn(out)
    files = (
        sorted((out / "metadata").iterdir()) if lost == "metadata" else picture_files(out, layout)
    )
    files[0].unlink()

    summary = api.repair(out, **ENGINE)

    assert (summary.success, summary.failed) == (ROWS - 2, 2)
    after = drawn(out)
    assert is_sound(out)
    for place, row in before.items():
        same = row.keys() - {"created_at", "latency_ms", "attempts"}
        assert {name: after[place][name] for name in same} == {name: row[name] for name in same}


def test_a_repair_draws_only_the_picture_that_rotted(out, layout):
    files = picture_files(out, layout)
    path = next(path for path in files if path.suffix in (".png", ".tar", ".parquet"))
    data = bytearray(path.read_bytes())
    at = data.index(b"IDAT") + 40
    data[at] ^= 0xFF
    path.write_bytes(data)
    before = drawn(out)

    assert api.open_dataset(out).verify(1).exit_code == 0
    assert api.open_dataset(out).verify(2).exit_code == 3
    api.repair(out, level=2, **ENGINE)

    changed = [place for place, row in drawn(out).items() if row != before[place]]
    assert is_sound(out)
    assert len(changed) == 1


def test_a_picture_is_replayed_from_any_layout(out):
    report = api.open_dataset(out).replay([5, "000000020_000"])

    assert [(one.stored, one.equal) for one in report.pictures] == [("success", True)] * 2


def test_a_lost_attempt_is_collected_whole(out, layout):
    store, before = open_store(out), set(picture_files(out, layout))
    for path in sorted(before)[:5]:
        key = path.relative_to(out).as_posix()
        shard, old = key.split("/")[1][:5], key
        lost = old.replace(old.split("/")[1].split(".")[0][-8:], "0badc0de")
        assert shard.isdigit() or lost != old
        store.put(lost, path.read_bytes())
    assert api.open_dataset(out).verify(1).orphans

    deleted = api.open_dataset(out).collect_orphans()

    assert all("0badc0de" in key for key in deleted)
    assert set(picture_files(out, layout)) == before
    assert is_sound(out)


KILLED = """
import os, sys
from sdbatch import api
from sdbatch.storage.local_store import LocalStore
from tests.engine.test_layouts import options, rows

layout, out, part, nth = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
seen = []

def dying(real):
    def write(self, key, *args):
        seen.append(part in key)
        if sum(seen) == nth and part in key:
            os._exit(9)
        return real(self, key, *args)
    return write

for name in ("put", "put_file", "_create_new"):
    setattr(LocalStore, name, dying(getattr(LocalStore, name)))
api.render(rows(), out, **options(layout))
"""


@pytest.mark.parametrize(
    ("layout", "part", "nth"),
    [
        ("webdataset", ".tar", 2),
        ("webdataset", "metadata/", 2),
        ("webdataset", "/commits/", 3),
        ("webdataset", "/success/", 1),
        ("files", ".png", 13),
        ("files", "index.parquet", 2),
        ("files", "/commits/", 1),
        ("files", "metadata.parquet", 1),
        ("files", "README.md", 1),
    ],
    indirect=["layout"],
)
def test_a_killed_driver_leaves_no_picture_lost_or_doubled(layout, tmp_path, part, nth):
    """Killed before a write of each kind; whoever comes next finds what stands."""
    out = str(tmp_path / "out")
    script = [sys.executable, "-c", KILLED, layout, out, part, str(nth)]
    died = subprocess.run(script, cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == 9, died.stderr.decode()

    summary = api.render(rows(), out, **options(layout))

    assert (summary.exit_code, summary.success) == (0, ROWS)
    assert is_sound(out)
    assert (Path(out) / "README.md").exists()
    if layout == "files":
        table = pq.read_table(Path(out) / "metadata.parquet")
        assert table["sha256"].to_pylist() == [row["sha256"] for row in drawn(out).values()]


def test_equal_runs_make_equal_tars(tmp_path):
    """Nothing but the moments that columns name depends on a clock or a user."""
    for name in ("a", "b"):
        api.render(rows(), tmp_path / name, **options("webdataset"))
    first, second = (sorted((tmp_path / name / "data").iterdir()) for name in ("a", "b"))

    for one, other in zip(first, second, strict=True):
        with tarfile.open(one) as tar, tarfile.open(other) as again:
            described = [
                (m.name, m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime) for m in tar.getmembers()
            ]
            assert {m[1:] for m in described} == {(0o644, 0, 0, "", "", 0)}
            assert [m.name for m in again.getmembers()] == tar.getnames()


def test_every_sample_has_the_same_members_and_keys_and_no_null(tmp_path):
    api.render(rows(), tmp_path / "out", class_label="breed", **options("webdataset"))
    tars = sorted((tmp_path / "out" / "data").iterdir())
    found = [row for path in tars for row in rows_of_tar(path)]

    assert len({tuple(row) for row in found}) == 1
    for name in found[0]:
        assert len({type(row[name]) for row in found}) == 1, name
    assert {key: value for key, value in found[0].items() if key in rows().column_names} == {
        "prompt": rows()["prompt"][0].as_py(),
        "note": "",
        "empty": "",
        "nested": "",
        "score": -1.0,
        "count": -1,
        "good": False,
        "breed": 1,
    }
    assert json.loads(found[-1]["nested"]) == rows()["nested"][ROWS - 1].as_py()
    for path in tars:
        for stem, sample in samples(path).items():
            assert list(sample) == ["png", "json", "txt"]
            assert sample["txt"].decode() == json.loads(sample["json"])["prompt"]
            assert json.loads(sample["json"])["key"] == stem


def test_the_index_of_a_folder_proves_every_file_in_it(tmp_path):
    api.render(rows(), tmp_path / "out", **options("files"))
    folder = min((tmp_path / "out" / "images").iterdir())
    index = pq.read_table(folder / "index.parquet").to_pylist()

    names = {row["file_name"] for row in index} | {f"{row['key']}.txt" for row in index}
    assert names | {"index.parquet"} == {path.name for path in folder.iterdir()}
    assert (folder / f"{index[3]['key']}.txt").read_text() == rows()["prompt"][3].as_py()


@pytest.mark.parametrize("level", [1, 2, 3])
def test_verify_looks_at_every_loose_picture(tmp_path, level):
    api.render(rows(), tmp_path / "out", **options("files"))
    folder = min((tmp_path / "out" / "images").iterdir())
    text, picture = min(folder.glob("*.txt")), max(folder.glob("*.png"))
    text.write_text(text.read_text()[::-1])
    picture.unlink()

    problems = api.open_dataset(tmp_path / "out").verify(level).problems

    found = {Path(problem.key).name for problem in problems}
    assert found >= ({picture.name} if level == 1 else {picture.name, text.name})
    assert {problem.shard_id for problem in problems} == {0}


def test_the_table_beside_the_pictures_names_them_all_before_and_after_a_retry(
    tmp_path, monkeypatch
):
    out = tmp_path / "out"
    spoil(monkeypatch, FAULTS)
    api.render(rows(), out, **options("files"))
    spoil(monkeypatch, {})
    for success in (ROWS - 2, ROWS):
        table = pq.read_table(out / "metadata.parquet").to_pylist()
        assert len(table) == success
        assert [row["row_index"] for row in table] == sorted(row["row_index"] for row in table)
        assert all((out / row["file_name"]).is_file() for row in table)
        api.retry(out, **ENGINE)


@pytest.mark.parametrize("name", ["sha256", "filter_reason", "status", "row_index"])
def test_names_of_ours_are_refused_in_every_layout(layout, tmp_path, name):
    table = pa.table({"prompt": ["a"], name: ["x"]})
    with pytest.raises(InputError, match=name):
        api.render(table, tmp_path / "out", **options(layout))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["x"]).cast(pa.string()),
        pa.array([{"thumb_file_name": "x"}]),
        pa.array([[{"thumb_file_names": "x"}]]),
    ],
    ids=["plain", "nested", "listed"],
)
def test_columns_that_a_folder_reader_takes_for_pictures_are_refused(tmp_path, column):
    name = "source_file_name" if pa.types.is_string(column.type) else "meta"
    with pytest.raises(InputError, match="for the name of a picture"):
        api.render(pa.table({"prompt": ["a"], name: column}), tmp_path / "out", **options("files"))


def test_captions_beside_parquet_are_refused_with_what_would_be_right(tmp_path):
    with pytest.raises(JobError, match="--caption-column"):
        api.render(
            rows(), tmp_path / "out", format="parquet", captions="txt", model="fake", **INLINE
        )


def test_a_folder_never_holds_ten_thousand_files(tmp_path):
    many = pa.table({"prompt": [f"p{i}" for i in range(12_000)]})
    with pytest.raises(JobError, match=r"10,000 files.*take 4,999 rows or fewer"):
        api.plan(many, tmp_path / "out", **options("files", shard_size=6000))
    plan = api.plan(
        pa.table({"prompt": [f"p{i}" for i in range(3000)], "num_images_per_prompt": [900] * 3000}),
        tmp_path / "out",
        **options("files", shard_size="auto"),
    )
    assert plan.images / plan.shards < 5000


def test_a_layout_is_part_of_the_plan(out, layout):
    other = next(name for name in LAYOUTS if name != layout)
    with pytest.raises(InputError, match="format"):
        api.render(rows(), out, class_label="breed", **{**options(layout), "format": other})

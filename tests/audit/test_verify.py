"""Damage is found at its level, and what is merely unfinished is not called damage."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pytest

from sdbatch.audit.check_pictures import picture_fault
from sdbatch.audit.check_records import check_plan
from sdbatch.audit.verify import verify
from sdbatch.errors import InputError
from sdbatch.records import Shard
from sdbatch.storage import layout
from sdbatch.storage.store import open_store
from tests.audit.tiny_dataset import (
    FAILED,
    NUM_IMAGES,
    memory_store,
    parquet,
    picture,
    shard_rows,
    write_dataset,
    write_job,
    write_shard,
)

DATA = layout.data_key("data", 1, 3, "0a1b2c3d")


@pytest.fixture
def store():
    return memory_store()


def kinds(report):
    return {(problem.level, problem.kind) for problem in report.problems}


@pytest.mark.parametrize("level", range(4))
@pytest.mark.parametrize("place", ["memory", "local"])
@pytest.mark.parametrize("run", ["main", "20260102"])
def test_a_sound_dataset_is_sound_at_every_level(level, place, run, tmp_path):
    store = open_store(tmp_path) if place == "local" else memory_store()
    write_dataset(store, run)
    report = verify(store, run, level)

    assert report.problems == []
    assert report.exit_code == 0
    assert (report.committed, report.success, report.failed) == (3, NUM_IMAGES - 2, 2)
    assert report.images_checked == (NUM_IMAGES - len(FAILED) if level == 3 else 0)
    assert json.loads(json.dumps(report.to_json()))["exit_code"] == 0
    assert ": sound (level" in report.describe()


def test_a_run_that_still_goes_on_is_unfinished_not_damaged(store):
    write_dataset(store, shards=(0, 2), success=False)
    report = verify(store, level=3)

    assert (report.problems, report.exit_code) == ([], 75)
    assert report.unfinished == "1 of 3 shards are not committed"


def test_all_shards_without_success_are_unfinished(store):
    write_dataset(store, success=False)

    assert verify(store).exit_code == 75


def test_orphans_are_listed_and_harm_nothing(store):
    write_dataset(store)
    write_dataset(store, "n2")
    orphan = layout.data_key("data", 1, 3, "ffffffff")
    store.put(orphan, b"from a lost race")
    report = verify(store)

    assert (report.orphans, report.exit_code) == ((orphan,), 0)
    assert "1 files that no record names" in report.describe()


def damage_record(store, **changes):
    key = layout.commit_key("main", 1)
    store.put(key, json.dumps({**json.loads(store.get(key)), **changes}).encode())


def rewrite_data(store, change):
    """Commit shard 1 with changed rows and a record that fits them."""
    store.delete(layout.commit_key("main", 1))
    data, errors = shard_rows(1)
    change(data, errors)
    write_shard(store, 1, data, errors, attempt="0000000e")


def swap_bytes(data, _errors):
    data[0]["image"], data[1]["image"] = data[1]["image"], data[0]["image"]


def swap_pictures(data, _errors):
    for name in ("image", "sha256"):
        data[0][name], data[1][name] = data[1][name], data[0][name]


def cut_picture(data, _errors):
    data[0]["image"]["bytes"] = data[0]["image"]["bytes"][:60]
    data[0]["sha256"] = hashlib.sha256(data[0]["image"]["bytes"]).hexdigest()


def wrong_size(data, _errors):
    data[0]["image_width"] = 9


def wrong_order(data, _errors):
    data[0], data[1] = data[1], data[0]


def twice(data, errors):
    errors.pop()
    data.append(data[-1])


def foreign_row(data, _errors):
    data[-1].update(row_index=9, key="000000009_001")


def wrong_key(data, _errors):
    data[0]["key"] = "000000002_001"


def in_both(data, errors):
    errors[0].update({name: data[0][name] for name in ("key", "row_index", "image_index")})


@pytest.mark.parametrize(
    ("damage", "level", "kind"),
    [
        (lambda s: damage_record(s, plan_id="another"), 0, "record"),
        (lambda s: damage_record(s, success=3), 0, "counts"),
        (lambda s: damage_record(s, num_rows=4), 0, "counts"),
        (lambda s: damage_record(s, errors_file=None), 0, "counts"),
        (lambda s: damage_record(s, attempt="ffffffff"), 0, "record"),
        (lambda s: damage_record(s, shard_id=0), 0, "record"),
        (lambda s: s.put(layout.commit_key("main", 1), b"{"), 0, "record"),
        (lambda s: s.delete(layout.commit_key("main", 1)), 0, "success"),
        (
            lambda s: s.put(layout.commit_key("main", 7), s.get(layout.commit_key("main", 1))),
            0,
            "record",
        ),
        (lambda s: s.put(layout.success_key("main", 1), b'{"files": []}'), 0, "success"),
        (lambda s: s.put(layout.success_key("main", 1), b"half"), 0, "success"),
        (lambda s: s.put(layout.content_key("main", "plan", "ab" * 8), b"PAR1"), 0, "plan"),
        (lambda s: s.delete(layout.content_key("main", "plan", "ab" * 8)), 0, "plan"),
        (lambda s: s.delete(DATA), 1, "missing"),
        (lambda s: s.put(DATA, s.get(DATA)[:-1]), 1, "size"),
        (lambda s: s.put(DATA, s.get(DATA)[:-9] + b"x" + s.get(DATA)[-8:]), 2, "hash"),
        (lambda s: rewrite_data(s, swap_bytes), 3, "picture"),
        (lambda s: rewrite_data(s, swap_pictures), 3, "picture"),
        (lambda s: rewrite_data(s, cut_picture), 3, "picture"),
        (lambda s: rewrite_data(s, wrong_size), 3, "picture"),
        (lambda s: rewrite_data(s, wrong_order), 3, "order"),
        (lambda s: rewrite_data(s, twice), 3, "order"),
        (lambda s: rewrite_data(s, foreign_row), 3, "rows"),
        (lambda s: rewrite_data(s, wrong_key), 3, "rows"),
        (lambda s: rewrite_data(s, in_both), 3, "rows"),
    ],
)
def test_damage_is_found_at_its_level_and_not_below(store, damage, level, kind):
    write_dataset(store, success=level < 3)
    damage(store)
    below = verify(store, level=level - 1) if level else None
    report = verify(store, level=3)

    assert below is None or not below.problems
    assert (level, kind) in kinds(report)
    assert verify(store, level=level).exit_code == 3
    assert "damaged" in report.describe()


def not_utf8(values, kind):
    """A column of the type whose texts are these bytes, as Parquet takes them."""
    text = pa.Array.from_buffers(
        pa.string(), len(values), pa.array(values, pa.binary()).buffers(), null_count=0
    )
    offsets = pa.array(range(len(values) + 1), pa.int32())
    return {
        "string": lambda: text,
        "struct": lambda: pa.StructArray.from_arrays([text], ["inner"]),
        "list": lambda: pa.ListArray.from_arrays(offsets, text),
        "dictionary": lambda: pa.DictionaryArray.from_arrays(
            pa.array(range(len(values)), pa.int32()), text
        ),
    }[kind]()


@pytest.mark.parametrize("file", ["data", "metadata", "errors"])
@pytest.mark.parametrize("kind", ["string", "struct", "list", "dictionary"])
@pytest.mark.parametrize("text", [b"caf\xe9", b"caf\xc3\xa9"])
def test_a_text_that_is_not_utf8_is_found_in_any_column(store, file, kind, text):
    write_dataset(store, success=False)
    key = layout.data_key(file, 1, 3, "0a1b2c3d")
    data, errors = shard_rows(1)
    rows = errors if file == "errors" else data
    if file == "metadata":
        rows = [{name: value for name, value in row.items() if name != "image"} for row in rows]
    values = [b"ok"] * (len(rows) - 1) + [text]
    table = pa.Table.from_pylist(rows).append_column("caption", not_utf8(values, kind))
    store.put(key, parquet(table))
    found = [problem for problem in verify(store, level=3).problems if problem.level == 3]

    if text == "caf\u00e9".encode():
        assert found == []
    else:
        assert [(problem.key, problem.kind) for problem in found] == [(key, "unreadable")]
        assert "column 'caption'" in found[0].message
        assert "\n" not in found[0].message


def test_a_key_that_is_not_utf8_is_unreadable_not_an_error(store):
    write_dataset(store, success=False)
    data, _ = shard_rows(1)
    table = pa.Table.from_pylist(data)
    broken = not_utf8([b"\xff"] * len(data), "string")
    table = table.set_column(table.column_names.index("key"), "key", broken)
    store.put(DATA, parquet(table))

    assert (3, "unreadable") in kinds(verify(store, level=3))


def test_a_metadata_file_of_other_rows_is_found(store):
    write_dataset(store, success=False)
    key = layout.data_key("metadata", 1, 3, "0a1b2c3d")
    store.put(key, parquet(pa.Table.from_pylist(shard_rows(0)[0])))

    assert (3, "rows") in kinds(verify(store, level=3))


def test_two_shards_of_one_window_must_not_share_a_row(store):
    shards = [
        {"shard_id": 0, "first_row": 0, "end_row": 2, "group": "8x8", "skip": 0, "num_rows": 1},
        {"shard_id": 1, "first_row": 0, "end_row": 2, "group": "8x16", "skip": 0, "num_rows": 1},
    ]
    write_job(store, num_shards=3, images=4, rows=2)
    table = pa.Table.from_pylist([{**shard, "num_images": 2, "cost": 1.0} for shard in shards])
    store.put(layout.content_key("main", "plan", "ab" * 8), parquet(table))
    data, _ = shard_rows(0)
    for shard_id in (0, 1):
        rows = [{**row, "shard_id": shard_id} for row in data if row["row_index"] == 0]
        write_shard(store, shard_id, rows, [])
    report = verify(store, level=3)

    assert any("stands in another shard too" in problem.message for problem in report.problems)


def shard(shard_id, first, end, group="", skip=0, rows=None):
    rows = end - first if rows is None else rows
    return Shard(shard_id, first, end, group, skip, rows, rows, 1.0)


def job(shards, rows):
    images = sum(shard.num_images for shard in shards)
    return {"plan_key": "p", "num_shards": len(shards), "images": images, "rows": rows}


@pytest.mark.parametrize(
    "shards",
    [
        [],
        [shard(0, 0, 6)],
        [shard(0, 0, 3), shard(1, 3, 6)],
        [shard(0, 0, 4, "a", 0, 1), shard(1, 0, 4, "a", 1, 2), shard(2, 0, 4, "b", 0, 1)],
        [shard(0, 0, 4, "a", 0, 4), shard(1, 4, 6, "b", 0, 2)],
    ],
)
def test_a_plan_that_cuts_every_row_once_is_sound(shards):
    rows = max((shard.end_row for shard in shards), default=0)

    assert list(check_plan(job(shards, rows), shards)) == []


@pytest.mark.parametrize(
    ("shards", "rows"),
    [
        ([shard(0, 0, 3), shard(1, 4, 6)], 6),
        ([shard(0, 0, 3), shard(1, 2, 6)], 6),
        ([shard(0, 0, 3)], 6),
        ([shard(0, 0, 3), shard(2, 3, 6)], 6),
        ([shard(0, 0, 4, "a", 0, 1), shard(1, 0, 4, "a", 2, 2)], 4),
        ([shard(0, 0, 4, "a", 0, 1), shard(1, 0, 4, "b", 0, 2)], 4),
    ],
)
def test_a_plan_with_gaps_or_overlaps_is_found(shards, rows):
    assert list(check_plan(job(shards, rows), shards))


@pytest.mark.parametrize("level", [-1, 4])
def test_other_levels_are_refused(store, level):
    with pytest.raises(InputError, match="one of 0"):
        verify(store, level=level)


def test_a_folder_without_a_run_is_refused(store):
    with pytest.raises(InputError, match="holds no run 'main'"):
        verify(store)


def test_a_picture_that_lies_about_its_size_is_never_decoded(store):
    encoded = picture(0, 0)
    row = {
        "key": "k",
        "image": {"bytes": encoded.data},
        "sha256": encoded.sha256,
        "pixel_sha256": "00",
        "image_width": 4,
        "image_height": 4,
    }

    assert picture_fault(row) == "8x8 pixels instead of 4x4"
    assert picture_fault({**row, "image_width": 8, "image_height": 8}).startswith("its pixels")
